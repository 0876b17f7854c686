"""Write the manual pages, docs/man/man1/bellevl.1 and docs/man/zh_CN/man1/bellevl.1: what `man bellevl` shows.

Commands, options, settings and slash commands come from the tables that --help, `bellevl config show` and /help read,
the exit codes from exits.py; files, other variables and examples stand here. Words are chosen when the program starts,
so each language is a process of its own.

Usage: build_manual.py          writes both pages
       build_manual.py --print  the page in the language of BELLEVL_LANG
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

#: Below docs/man, as below share/man.
PAGES = {"en": "man1/bellevl.1", "zh": "zh_CN/man1/bellevl.1"}

#: What the tables of the program do not say. id -> (English, Chinese)
WORDS = {
    "title": ("bellevl manual", "bellevl 手册"),
    "name": ("NAME", "名称"),
    "synopsis": ("SYNOPSIS", "概要"),
    "command": ("COMMAND", "命令"),
    "arguments": ("[OPTIONS] [ARGUMENTS]", "[选项] [参数]"),
    "description": ("DESCRIPTION", "描述"),
    "about": (
        "bellevl answers questions about pictures on this machine, in Chinese and English. The answer is written to "
        "standard output, everything else to standard error. No command but bellevl pull uses the network; bellevl "
        "serve listens on this machine alone unless it is told otherwise. Without a model of its own it answers with "
        "the small demonstration model inside the package, and says so.",
        "bellevl 在本机回答关于图片的问题，支持中文和英文。回答写到标准输出，其余一切写到标准错误。除 bellevl pull "
        "外没有命令使用网络；bellevl serve 若无另外指定只在本机监听。没有模型时由内置的小演示模型回答，并会说明。",
    ),
    "commands": ("COMMANDS", "命令"),
    "chat": ("COMMANDS OF THE CHAT", "对话里的命令"),
    "settings": ("SETTINGS", "设置"),
    "settings_about": (
        "An option goes before the environment variable, that before config.toml. bellevl config shows and changes "
        "them.",
        "命令行选项优先于环境变量，环境变量优先于 config.toml。bellevl config 查看和修改。",
    ),
    "values": ("one of", "取值"),
    "environment": ("ENVIRONMENT", "环境变量"),
    "files": ("FILES", "文件"),
    "files_about": (
        "The folders follow XDG_CONFIG_HOME, XDG_DATA_HOME and XDG_STATE_HOME, and are other ones on macOS.",
        "目录取决于 XDG_CONFIG_HOME、XDG_DATA_HOME 和 XDG_STATE_HOME，在 macOS 上另有位置。",
    ),
    "codes": ("EXIT STATUS", "退出码"),
    "examples": ("EXAMPLES", "例子"),
}

#: Names of exits.py -> what the code means.
CODES = {
    "OK": ("Answered, or done.", "已回答，或已完成。"),
    "FAILURE": ("Another failure.", "其他错误。"),
    "USAGE": ("The command line is wrong.", "用法错误。"),
    "PICTURE": ("A picture is missing or cannot be read.", "图片不存在或不能读取。"),
    "MODEL": ("The model is missing, damaged or a wrong one.", "模型不存在、损坏或不合适。"),
    "MEMORY": ("There is not enough memory.", "内存或显存不足。"),
    "UNMET": ("--schema or --expect is not met.", "不合 --schema 或 --expect。"),
    "INTERRUPTED": ("Ctrl-C.", "Ctrl-C 中断。"),
    "BROKEN_PIPE": ("The reader of standard output has gone.", "标准输出的读取方已离开。"),
    "TERMINATED": ("The program was told to end (SIGTERM).", "收到结束信号 (SIGTERM)。"),
}

#: Variables that are no settings.
VARIABLES = {
    "BELLEVL_CONFIG": ("The configuration file.", "配置文件的位置。"),
    "BELLEVL_LANG": (
        "Language of the messages, zh or en; else LANGUAGE, LC_ALL, LC_MESSAGES and LANG decide.",
        "程序消息的语言，zh 或 en；不设时依次看 LANGUAGE、LC_ALL、LC_MESSAGES、LANG。",
    ),
    "BELLEVL_DEBUG": ("1 shows the traceback of an error, as --debug.", "为 1 时出错显示完整信息，同 --debug。"),
    "BELLEVL_NO_LOG": ("1 logs nothing, as --no-log.", "为 1 时不记录，同 --no-log。"),
    "BELLEVL_NOHISTORY": ("1 keeps no typed lines of the chat.", "为 1 时不保存对话中输入过的行。"),
    "BELLEVL_SHOW": (
        "How pictures are shown in the terminal: kitty, sixel, blocks or off; else the terminal is asked.",
        "终端里显示图片的方式: kitty, sixel, blocks 或 off；不设时询问终端。",
    ),
    "BELLEVL_TOKEN": ("The token of bellevl serve, as --token.", "bellevl serve 的令牌，同 --token。"),
    "HF_ENDPOINT": ("A mirror for bellevl pull, as the setting endpoint.", "bellevl pull 的镜像，同设置 endpoint。"),
    "HF_TOKEN": ("The hub's token for bellevl pull.", "bellevl pull 所用的令牌。"),
    "NO_COLOR": ("Any value: no colours.", "有任何值就不用颜色。"),
    "FORCE_COLOR": ("Any value: colours in a pipe, too.", "有任何值就在管道中也用颜色。"),
    "VISUAL": ("The editor of Ctrl-X Ctrl-E and bellevl config edit; else EDITOR.", "外部编辑器，其次是 EDITOR。"),
}

#: Files of a person.
FILES = {
    "~/.config/bellevl/config.toml": ("The settings.", "设置。"),
    "~/.config/bellevl/templates/*.toml": ("One's own templates for --template.", "自己的 --template 模板。"),
    "~/.local/share/bellevl/models/": ("Models that bellevl pull fetched.", "bellevl pull 下载的模型。"),
    "~/.local/share/bellevl/log.db": ("The log of questions and answers.", "问答记录。"),
    "~/.local/state/bellevl/history": ("Lines typed in the chat.", "对话中输入过的行。"),
    "~/.local/state/bellevl/last-error.txt": ("The traceback of the last error.", "最近一次出错的完整信息。"),
}

#: Command lines and what they do.
EXAMPLES = {
    'bellevl ask photo.jpg "What is in the picture?"': ("One question.", "提一个问题。"),
    'bellevl ask receipt.jpg --schema "name, price float" --json': (
        "A structured answer, as JSON.",
        "按 schema 回答，输出 JSON。",
    ),
    'bellevl ask street.jpg "框出所有的车" --draw out.png': ("Boxes, drawn on the picture.", "把框画到图片上。"),
    'bellevl batch photos/ "Describe the picture" -o out.jsonl': (
        "A folder; the same command goes on where it was stopped.",
        "整个目录；中断后同一命令继续。",
    ),
    "bellevl chat photo.jpg": ("A dialogue.", "对话。"),
}


def page() -> str:
    """The page in the language of BELLEVL_LANG."""
    import typer

    from bellevl_cli.app import app

    program = typer.main.get_command(app)
    context = typer.Context(program, info_name="bellevl", help_option_names=["-h", "--help"])
    lines = [*_head(program), *_section("commands"), *_parameters(program, context), *_commands(program, context)]
    lines += [*_slash(), *_settings(), *_pairs("environment", VARIABLES), *_files(), *_codes()]
    return "\n".join([*lines, *_pairs("examples", EXAMPLES)]) + "\n"


def _words(texts: tuple[str, str]) -> str:
    from bellevl_cli.words import language

    return texts[language() == "zh"]


def roff(text: str) -> str:
    """`text` as it stands in a line of the page: its own backslashes and dashes, no request by accident, and places to
    break in Chinese, which has no blanks."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    text = re.sub("([，。；：、])(?=.)", r"\1\\:", text)
    return "\\&" + text if text[:1] in (".", "'") else text


def _section(id: str) -> Iterator[str]:
    yield f'.SH "{roff(_words(WORDS[id]))}"'


def _item(head: str, *paragraphs: str) -> Iterator[str]:
    """A head in bold, and what is said of it."""
    yield ".TP"
    yield rf"\fB{roff(head)}\fR"
    yield from (roff(paragraph) for paragraph in paragraphs if paragraph)


def _head(program: Any) -> Iterator[str]:
    from bellevl import __version__

    yield r".\" -*- coding: utf-8 -*-"
    yield r".\" Made by scripts/build_manual.py."
    yield f'.TH BELLEVL 1 "" "bellevl {__version__}" "{_words(WORDS["title"])}"'
    yield from (".nh", ".ad l")  # neither hyphens nor wide gaps in command lines
    yield from _section("name")
    yield rf"bellevl \- {roff(program.help)}"
    yield from _section("synopsis")
    yield rf"\fBbellevl\fR \fI{roff(_words(WORDS['command']))}\fR {roff(_words(WORDS['arguments']))}"
    yield from _section("description")
    yield roff(_words(WORDS["about"]))


def _commands(group: Any, context: Any) -> Iterator[str]:
    """Every command of a group, and what is in the groups among them."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inside = type(context)(command, info_name=name, parent=context)
        usage, _, _ = inside.get_help().partition("\n\n")
        yield f'.SS "{roff(" ".join(usage.split()[1:]))}"'
        yield roff(command.help)
        yield from _parameters(command, inside)
        if hasattr(command, "list_commands"):
            yield from _commands(command, inside)


def _parameters(command: Any, context: Any) -> Iterator[str]:
    from bellevl_cli.parser import readable

    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from _item(readable(record[0]), readable(record[1]))


def _slash() -> Iterator[str]:
    from bellevl_cli.chat.slash import COMMANDS

    yield from _section("chat")
    for row in COMMANDS.values():
        aliases = " ".join(f"/{alias}" for alias in row.aliases)
        yield from _item(row.usage, row.summary, f"({aliases})" if aliases else "")


def _settings() -> Iterator[str]:
    """The keys of config.toml and their variables."""
    from bellevl_cli.keys import KEYS
    from bellevl_cli.words import say

    yield from _section("settings")
    yield roff(_words(WORDS["settings_about"]))
    for key in KEYS:
        values = f"({_words(WORDS['values'])}: {', '.join(key.choices)})" if key.choices else ""
        yield from _item(f"{key.name} ({key.variable})", say(key.help), values)


def _files() -> Iterator[str]:
    heading, *items = _pairs("files", FILES)
    yield from (heading, roff(_words(WORDS["files_about"])), *items)


def _codes() -> Iterator[str]:
    from bellevl_cli import exits

    return _pairs("codes", {str(getattr(exits, name)): texts for name, texts in CODES.items()})


def _pairs(heading: str, table: dict[str, tuple[str, str]]) -> Iterator[str]:
    """A section of names and what they are."""
    yield from _section(heading)
    for name, texts in table.items():
        yield from _item(name, _words(texts))


def made(language: str) -> str:
    """The page of a language, from a process of its own."""
    environment = {**os.environ, "BELLEVL_LANG": language, "BELLEVL_CONFIG": os.devnull, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, __file__, "--print"]
    return subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode()  # noqa: S603


def problems(page: str) -> list[str]:
    """Lines that a formatter would stumble over: requests that are not used here, lone backslashes, headings astray."""
    allowed = re.compile(r'\.(?:TH BELLEVL 1 .*|SH ".*"|SS ".*"|TP|nh|ad l|\\" .*)')
    escapes = re.compile(r"\\(?:e|-|&|:|fB|fI|fR)")
    wrong = [line for line in page.splitlines() if line.startswith(".") and not allowed.fullmatch(line)]
    wrong += [line for line in page.splitlines() if not line.startswith(".") and "\\" in escapes.sub("", line)]
    return wrong + [line for line in page.splitlines() if not line.strip() or line.startswith("'")]


def main() -> None:
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(page())
        return
    for language, name in PAGES.items():
        path = ROOT / "docs" / "man" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made(language), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
