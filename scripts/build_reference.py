"""Write docs/reference.md and docs/reference.zh-CN.md: every command, option, setting and slash command.

The tables that --help, `bellevl config show` and /help read are read here too, so the pages say what the program says.
Words are chosen when the program starts, so each language is a process of its own.

Usage: build_reference.py          writes both pages
       build_reference.py --print  the page in the language of BELLEVL_LANG
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as `python scripts/…` puts only scripts/ there

PAGES = {"en": "reference.md", "zh": "reference.zh-CN.md"}

#: Headings and sentences of the page that the program itself does not say.
WORDS = {
    "title": ("Reference", "命令参考"),
    "made": (
        "Made by `scripts/build_reference.py` from the tables that `--help`, `bellevl config show` and `/help` read. "
        "How it is used: [guide](guide.md).",
        "由 `scripts/build_reference.py` 从 `--help`、`bellevl config show` 和 `/help` 所用的表生成。用法见"
        "[使用指南](guide.zh-CN.md)。",
    ),
    "argument": ("argument", "参数"),
    "option": ("option", "选项"),
    "command": ("command", "命令"),
    "meaning": ("what it is", "含义"),
    "does": ("what it does", "做什么"),
    "codes": ("Exit codes", "退出码"),
    "settings": ("Settings", "设置"),
    "setting": ("setting", "设置"),
    "variable": ("variable", "环境变量"),
    "default": ("default", "默认"),
    "values": ("values", "取值"),
    "yes": ("yes or no", "是或否"),
    "decided": ("-", "-"),
    "slash": ("Commands of the chat", "对话里的命令"),
}


def page() -> str:
    """The page in the language of BELLEVL_LANG."""
    import typer

    from bellevl_cli.app import app

    program = typer.main.get_command(app)
    context = typer.Context(program, info_name="bellevl", help_option_names=["-h", "--help"])
    parts = [f"# {_word('title')}", _word("made"), *_command(program, context, "bellevl"), *_commands(program, context)]
    return "\n\n".join([*parts, *_codes(), *_settings(), *_slash()]) + "\n"


def _word(id: str) -> str:
    from bellevl_cli.words import language

    return WORDS[id][language() == "zh"]


def _commands(group: Any, context: Any) -> Iterator[str]:
    """Every command of a group, and what is in the groups among them."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inside = type(context)(command, info_name=name, parent=context)
        yield from _command(command, inside, f"{context.command_path} {name}")
        if hasattr(command, "list_commands"):
            yield from _commands(command, inside)


def _command(command: Any, context: Any, path: str) -> Iterator[str]:
    usage, _, _ = context.get_help().partition("\n\n")
    yield f"## {path}"
    yield command.help
    yield f"`{' '.join(usage.split()[1:])}`"
    parameters = command.get_params(context)
    for kind in ("argument", "option"):
        records = [p.get_help_record(context) for p in parameters if p.param_type_name == kind]
        rows = [_row(f"`{_plain(name)}`", _plain(text)) for name, text in filter(None, records)]
        if rows:
            yield _table((_word(kind), _word("meaning")), rows)
    if hasattr(command, "list_commands"):
        names = command.list_commands(context)
        rows = [_row(f"`{path} {name}`", command.get_command(context, name).help) for name in names]
        yield _table((_word("command"), _word("does")), rows)


def _plain(text: str) -> str:
    """As the program's help has it: in the person's language, without types of Python."""
    from bellevl_cli.parser import readable

    return readable(text)


def _codes() -> Iterator[str]:
    from bellevl_cli.words import say

    yield f"## {_word('codes')}"
    _, _, codes = say("help.exit_codes").partition(":")
    yield " ".join(codes.split())


def _settings() -> Iterator[str]:
    """The keys of config.toml."""
    from bellevl_cli.keys import KEYS
    from bellevl_cli.words import say

    yield f"## {_word('settings')}"
    rows = []
    for key in KEYS:
        values = " ".join(f"`{choice}`" for choice in key.choices) or (_word("yes") if key.kind is bool else "")
        default = _word("decided") if key.default is None else f"`{str(key.default).lower()}`"
        rows.append(_row(f"`{key.name}`", f"`{key.variable}`", say(key.help), values, default))
    heads = ("setting", "variable", "meaning", "values", "default")
    yield _table(tuple(_word(head) for head in heads), rows)


def _slash() -> Iterator[str]:
    from bellevl_cli.chat.slash import markdown
    from bellevl_cli.words import language

    yield f"## {_word('slash')}"
    yield markdown(language()).rstrip()


def _table(heads: tuple[str, ...], rows: list[str]) -> str:
    return "\n".join([_row(*heads), _row(*["---"] * len(heads)), *rows])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def made(language: str) -> str:
    """The page of a language, from a process of its own."""
    environment = {**os.environ, "BELLEVL_LANG": language, "BELLEVL_CONFIG": os.devnull, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, __file__, "--print"]
    return subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode()  # noqa: S603


def main() -> None:
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(page())
        return
    for language, name in PAGES.items():
        path = ROOT / "docs" / name
        path.write_text(made(language), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
