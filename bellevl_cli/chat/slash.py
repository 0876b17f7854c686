"""What a line of the chat means, and the slash commands' help. The table is in registry.py, what commands do in the
files that fill it. Knows no terminal.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from bellevl.picture_files import nearest_name

from ..pictures.asked import is_picture_name, is_picture_path, split_picture
from ..words import TEXTS, say
from . import on_answers, on_dialogue, on_pictures, on_settings
from .registry import COMMANDS, GROUPS, SlashCommand, all_names, command, find

if TYPE_CHECKING:
    from .repl import ChatLoop

__all__ = ["COMMANDS", "FILLED_BY", "Line", "all_names", "find", "help_lines", "markdown", "parse", "run"]

#: They are imported for what they put into the table.
FILLED_BY = (on_pictures, on_answers, on_dialogue, on_settings)

#: What is shown of a command that there is not.
LONGEST_NAME = 40

#: Of two characters one may be another: 清除 is near 清空.
NEAR_ENOUGH = 0.5

#: Around text that is a question whatever it looks like, over as many lines as it takes.
BLOCK = '"""'

#: Columns of a row of /help: half of the usual terminal; its example takes this much of it.
HALF, EXAMPLE = 40, 21


@dataclass(frozen=True)
class Line:
    """What a line means: `kind` is "empty", "question", "picture" (with a question, perhaps) or "command"."""

    kind: str
    name: str = ""
    text: str = ""


def parse(text: str) -> Line:
    """What a typed line means. In a command full-width slash, colon, space and letters are as good as half-width."""
    text = text.strip()
    if not text:
        return Line("empty")
    if text.startswith(BLOCK):
        return _parse_block(text)
    if is_picture_path(text) and (is_picture_name(text) or "/" in text or "\\" in text):  # a word may be a file's name
        return Line("picture", name=text)
    if text[0] not in "/\N{FULLWIDTH SOLIDUS}":
        return Line("question", text=text)
    if text[1:2] == "/" or text[:2] == "\N{FULLWIDTH SOLIDUS}" * 2:
        return Line("question", text="/" + text[2:])
    return _parse_command(text)


def is_open_block(text: str) -> bool:
    """Whether a block was begun and not ended: more lines belong to it."""
    text = text.strip()
    return text.startswith(BLOCK) and (len(text) < 2 * len(BLOCK) or not text.endswith(BLOCK))


def _parse_block(text: str) -> Line:
    inside = text.removeprefix(BLOCK).removesuffix(BLOCK).strip("\n")
    return Line("question", text=inside) if inside.strip() else Line("empty")


def _parse_command(text: str) -> Line:
    found = re.match(r"([^\s:\N{FULLWIDTH COLON}]*)[\s:\N{FULLWIDTH COLON}]*(.*)", text[1:], re.DOTALL)
    assert found is not None
    name, rest = found.groups()
    path, question = split_picture(text)
    if is_picture_path(path) or ("/" in name and is_picture_name(path)):  # a path that is wrong is told as one
        return Line("picture", name=path, text=question)
    return Line("command", name=unicodedata.normalize("NFKC", name).lower(), text=rest.strip())


def run(loop: ChatLoop, line: Line) -> None:
    """Carries out a line of kind "command"; an unknown one is answered with the nearest name."""
    row = find(line.name or "help")  # a slash alone asks what there is
    if row is not None:
        row.handler(loop, line.text)
        return
    name = line.name[:LONGEST_NAME]
    near = nearest_name(name, all_names()) or next(iter(get_close_matches(name, all_names(), 1, NEAR_ENOUGH)), None)
    suggestion = say("usage.near", name=f"/{near}") if near else ""
    loop.tell(say("chat.unknown", name=f"/{name}", near=suggestion))


@command("help", "?", "帮助", group="settings", takes="command")
def _help(loop: ChatLoop, argument: str) -> None:
    row = find(unicodedata.normalize("NFKC", argument).lstrip("/").lower())
    loop.tell("\n".join(row_help(row) if row else help_lines(loop.columns)))


@command("exit", "bye", "quit", "退出", group="settings")
def _exit(loop: ChatLoop, argument: str) -> None:
    loop.leave()


def _in_order(rows: dict[str, SlashCommand]) -> dict[str, SlashCommand]:
    """By group, and in it as they were written."""
    return dict(sorted(rows.items(), key=lambda item: GROUPS.index(item[1].group)))


_ordered = _in_order(COMMANDS)
COMMANDS.clear()
COMMANDS.update(_ordered)


def help_lines(columns: int = 80) -> list[str]:
    """Every command with an example, in two columns where the terminal is wide enough."""
    lines = []
    for group in GROUPS:
        cells = [_cell(row) for row in COMMANDS.values() if row.group == group]
        lines += [say(f"group.{group}"), *(_in_pairs(cells) if columns >= 2 * HALF else cells)]
    return [*lines, say("chat.help_end")]


def row_help(row: SlashCommand) -> list[str]:
    """One command: how it is written, what it does, its other names, examples."""
    aliases = " ".join(f"/{alias}" for alias in row.aliases)
    return [f"{row.usage}  {row.summary}", say("chat.aliases", aliases=aliases), *(f"  {e}" for e in row.examples)]


def markdown(language: str) -> str:
    """The table as documentation has it, in "zh" or "en"."""
    texts = {id: chinese if language == "zh" else english for id, (chinese, english) in TEXTS.items()}
    rows = [[texts["doc.command"], texts["doc.does"], texts["doc.aliases"]], ["---"] * 3]
    for row in COMMANDS.values():
        usage = texts[f"usage.{row.name}"] if row.takes else f"/{row.name}"
        aliases = " ".join(f"`/{alias}`" for alias in row.aliases)
        rows.append([f"`{usage}`".replace("|", "\\|"), texts[f"command.{row.name}"], aliases])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _cell(row: SlashCommand) -> str:
    return f"  {_wide(row.examples[0], EXAMPLE - 3)} {row.summary}"


def _in_pairs(cells: list[str]) -> list[str]:
    """Cells in two columns, down the first and on in the second."""
    height = (len(cells) + 1) // 2
    right = cells[height:] + [""] * (2 * height - len(cells))
    return [(_wide(a, HALF) + b).rstrip() for a, b in zip(cells[:height], right, strict=True)]


def _wide(text: str, columns: int) -> str:
    """`text` and blanks up to `columns` of a terminal."""
    from rich.cells import cell_len

    return text + " " * max(0, columns - cell_len(text))
