"""The slash commands of the chat: one table, filled by `command`. /help, completion and tests read it.

A handler gets the loop and what follows the command; it prints nothing itself. Knows no terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bellevl.picture_files import nearest_name

from ..pictures.asked import is_picture_name, is_picture_path, split_picture
from ..words import say


class Loop(Protocol):
    """What a command may do to the chat."""

    def attach(self, path: str) -> bool: ...
    def ask(self, question: str) -> None: ...
    def retry(self) -> None: ...
    def clear(self) -> None: ...
    def leave(self) -> None: ...
    def tell(self, text: str) -> None: ...


Handler = Callable[[Loop, str], None]


@dataclass(frozen=True)
class SlashCommand:
    """A row of the table. `usage` is what /help shows first, in the person's language."""

    name: str
    aliases: tuple[str, ...]
    handler: Handler

    @property
    def usage(self) -> str:
        return say(f"usage.{self.name}") if self.name in WITH_ARGUMENT else f"/{self.name}"

    @property
    def summary(self) -> str:
        return say(f"command.{self.name}")


@dataclass(frozen=True)
class Line:
    """What a line means: `kind` is "empty", "question", "picture" (with a question, perhaps) or "command"."""

    kind: str
    name: str = ""
    text: str = ""


#: Commands by name; their aliases lead to the same rows.
COMMANDS: dict[str, SlashCommand] = {}

WITH_ARGUMENT = frozenset({"img"})

#: What is shown of a command that there is not.
LONGEST_NAME = 40


def command(name: str, *aliases: str) -> Callable[[Handler], Handler]:
    """Puts a handler into the table under `name` and `aliases`."""

    def register(handler: Handler) -> Handler:
        COMMANDS[name] = SlashCommand(name, aliases, handler)
        return handler

    return register


def find(name: str) -> SlashCommand | None:
    """The row of a name or an alias."""
    return next((row for row in COMMANDS.values() if name == row.name or name in row.aliases), None)


def all_names() -> list[str]:
    """Every name and alias."""
    return [name for row in COMMANDS.values() for name in (row.name, *row.aliases)]


def parse(text: str) -> Line:
    """What a typed line means. In a command full-width slash, colon, space and letters are as good as half-width."""
    text = text.strip()
    if not text:
        return Line("empty")
    if is_picture_path(text) and (is_picture_name(text) or "/" in text or "\\" in text):  # a word may be a file's name
        return Line("picture", name=text)
    if text[0] not in "/\N{FULLWIDTH SOLIDUS}":
        return Line("question", text=text)
    if text[1:2] == "/" or text[:2] == "\N{FULLWIDTH SOLIDUS}" * 2:
        return Line("question", text="/" + text[2:])
    return _parse_command(text)


def _parse_command(text: str) -> Line:
    name, rest = re.match(r"([^\s:\N{FULLWIDTH COLON}]*)[\s:\N{FULLWIDTH COLON}]*(.*)", text[1:], re.DOTALL).groups()  # type: ignore[union-attr]
    path, question = split_picture(text)
    if is_picture_path(path) or ("/" in name and is_picture_name(path)):  # a path that is wrong is told as one
        return Line("picture", name=path, text=question)
    return Line("command", name=unicodedata.normalize("NFKC", name).lower(), text=rest.strip())


def run(loop: Loop, line: Line) -> None:
    """Carries out a line of kind "command"; an unknown one is answered with the nearest name."""
    row = find(line.name or "help")  # a slash alone asks what there is
    if row is not None:
        row.handler(loop, line.text)
        return
    name = line.name[:LONGEST_NAME]
    near = nearest_name(name, all_names())
    suggestion = say("usage.near", name=f"/{near}") if near else ""
    loop.tell(say("chat.unknown", name=f"/{name}", near=suggestion))


@command("img", "image", "图", "图片")
def _img(loop: Loop, argument: str) -> None:
    if not argument:
        loop.tell(say("chat.img_usage", usage=COMMANDS["img"].usage))
        return
    path, question = split_picture(argument)
    if loop.attach(path) and question:
        loop.ask(question)


@command("clear", "清空")
def _clear(loop: Loop, argument: str) -> None:
    loop.clear()


@command("retry", "regen", "重答")
def _retry(loop: Loop, argument: str) -> None:
    loop.retry()


@command("help", "?", "帮助")
def _help(loop: Loop, argument: str) -> None:
    row = find(argument.lstrip("/"))
    loop.tell("\n".join(help_line(r) for r in ([row] if row else COMMANDS.values())))


@command("exit", "bye", "quit", "退出")
def _exit(loop: Loop, argument: str) -> None:
    loop.leave()


def help_line(row: SlashCommand) -> str:
    """A command, its aliases and what it does, in one line."""
    from rich.cells import cell_len

    aliases = " ".join(f"/{alias}" for alias in row.aliases)
    return f"  {row.usage}{' ' * max(1, 22 - cell_len(row.usage))}{row.summary}  ({aliases})"
