"""Write docs/reference.md and docs/reference.zh-CN.md: every command, option, setting, variable and slash command.

The tables that --help, `bellevl config show` and /help read are read here too, so the pages say what the program says;
which option takes a value, and what that is called, the parser itself says.
Words are chosen when the program starts, so each language is a process of its own.

Usage: build_reference.py          writes both pages, and the manual pages (build_manual.py)
       build_reference.py --print  the page in the language of BELLEVL_LANG
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as `python scripts/…` puts only scripts/ there

#: A code and its meaning in the sentence that ends `bellevl --help`.
CODE = re.compile(r"(\d+) ([^,，\n]+)")

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
    "code": ("code", "退出码"),
    "variables": ("Environment variables", "环境变量"),
    "each_setting": (
        "Beside those of the settings above:",
        "除上表各设置的环境变量外还有:",
    ),
    "templates": ("Templates", "模板"),
    "template": ("template", "模板"),
    "asks": ("what it asks", "问什么"),
    "with_t": (
        "`bellevl ask PICTURE -t NAME`. What stands in braces is filled by `-p NAME=TEXT`, or as shown behind it.",
        "`bellevl ask 图片 -t 名字`。花括号里的用 `-p 名字=文字` 填，不填则取后面所示的值。",
    ),
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
    return "\n\n".join([*parts, *_codes(), *_settings(), *_variables(), *_templates(), *_slash()]) + "\n"


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
    yield f"{'##' if path.count(' ') < 2 else '###'} {path}"
    yield command.help
    yield f"`{' '.join(usage.split()[1:])}`"
    parameters = command.get_params(context)
    for kind in ("argument", "option"):
        records = [p.get_help_record(context) for p in parameters if p.param_type_name == kind]
        rows = [_row(f"`{_plain(name)}`", " ".join(_plain(text).split())) for name, text in filter(None, records)]
        if rows:
            yield _table((_word(kind), _word("meaning")), rows)
    if hasattr(command, "list_commands"):
        names = command.list_commands(context)
        rows = [
            _row(f"[`{path} {name}`](#{f'{path} {name}'.replace(' ', '-')})", command.get_command(context, name).help)
            for name in names
        ]
        yield _table((_word("command"), _word("does")), rows)


def _plain(text: str) -> str:
    """As the program's help has it: in the person's language, without types of Python."""
    from bellevl_cli.parser import readable

    return readable(text)


def _codes() -> Iterator[str]:
    from bellevl_cli.words import say

    yield f"## {_word('codes')}"
    _, _, codes = say("help.exit_codes").partition(":")
    rows = [_row(code, " ".join(meaning.split())) for code, meaning in CODE.findall(codes)]
    yield _table((_word("code"), _word("meaning")), rows)


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


def _variables() -> Iterator[str]:
    """What is read of the environment and is no setting."""
    from bellevl_cli.keys import VARIABLES
    from bellevl_cli.words import say

    yield f"## {_word('variables')}"
    yield _word("each_setting")
    yield _table(
        (_word("variable"), _word("meaning")), [_row(f"`{name}`", say(help)) for name, help in VARIABLES.items()]
    )


def _templates() -> Iterator[str]:
    """The questions that have a name."""
    from bellevl_cli.asking.templates import BUILT_IN, find
    from bellevl_cli.words import language

    yield f"## {_word('templates')}"
    yield _word("with_t")
    rows = []
    for chinese, (english, _) in BUILT_IN.items():
        template = find(chinese)
        filled = "".join(f" `{name}={text}`" for name, text in template.params.items())
        names = (chinese, english) if language() == "zh" else (english, chinese)
        rows.append(_row("`{}` `{}`".format(*names), " ".join(template.question.split()) + filled))
    yield _table((_word("template"), _word("asks")), rows)


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
    environment["XDG_CONFIG_HOME"] = os.devnull  # no templates of this person
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
    subprocess.run([sys.executable, str(Path(__file__).with_name("build_manual.py"))], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
