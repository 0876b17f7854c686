"""The command line itself: help, version, usage errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Bellevl

from bellevl import __version__
from quantize.recipe import Recipe

COMMANDS = ("ask", "chat", "batch", "watch", "quantize", "show", "doctor")


def width(text: str) -> int:
    """Columns that the widest line takes."""
    return max(sum(2 if ord(c) > 0x2E7F else 1 for c in line) for line in text.splitlines())


@pytest.mark.parametrize(
    ("language", "heading", "said"), [("zh", "命令:", "离线看图问答"), ("en", "Commands:", "offline")]
)
def test_help_is_in_the_person_s_language(bellevl: Bellevl, language: str, heading: str, said: str) -> None:
    """--help, -h and no argument at all show the same page, on stdout, with every command and the exit codes."""
    pages = [bellevl(*arguments, env={"BELLEVL_LANG": language}) for arguments in (["--help"], ["-h"], [])]
    assert [page.returncode for page in pages] == [0, 0, 0]
    assert pages[0].stdout == pages[1].stdout == pages[2].stdout and pages[0].stderr == b""
    text = pages[0].stdout.decode()
    assert heading in text and said in text and "141" in text
    assert all(f"\n  {command} " in text for command in COMMANDS)
    assert width(text) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(bellevl: Bellevl, command: str) -> None:
    """The help of each command is Chinese for a Chinese reader, in lines that fit 80 columns."""
    done = bellevl(command, "--help")
    text = done.stdout.decode()
    assert done.returncode == 0 and text.startswith(f"用法: bellevl {command}")
    assert not any(word in text for word in ("OPTIONS", "Options:", "Arguments:", "Usage:", "Show this message", "<"))
    assert width(text) <= 80


def test_help_names_arguments_in_both_languages(bellevl: Bellevl) -> None:
    """The usage line and the arguments have the person's words, without the parser's braces."""
    for language, said in (
        ("zh", "用法: bellevl ask [选项] 图片... [问题]"),
        ("en", "bellevl ask [OPTIONS] PICTURE... [QUESTION]"),
    ):
        assert said in bellevl("ask", "--help", env={"BELLEVL_LANG": language}).stdout.decode()


def test_help_of_quantize_tells_the_defaults(bellevl: Bellevl) -> None:
    """The defaults in the help are the recipe's."""
    recipe, text = Recipe(), bellevl("quantize", "--help").stdout.decode()
    for option, value in (
        ("--group-size", recipe.group_size), ("--damp", recipe.damp_percent), ("--samples", recipe.nsamples),
        ("--seqlen", recipe.seqlen), ("--seed", recipe.seed),
    ):  # fmt: skip
        assert f"[{value}]" in next(line for line in text.splitlines() if option in line)


def test_version(bellevl: Bellevl) -> None:
    """--version is the package's."""
    assert bellevl("--version").stdout.decode() == f"bellevl {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask"], "缺少参数 图片  试试: bellevl ask --help"),
        (["quantize", "a"], "缺少参数 目标  试试: bellevl quantize --help"),
        (["config"], "缺少命令，可以是: path show set unset edit  试试: bellevl config --help"),
        (["aks"], "没有命令 aks (是不是 ask?)  试试: bellevl --help"),
        (["红 色.png"], "没有命令 红 色.png (是不是 bellevl ask 红 色.png?)"),
        (["ask", "a.png", "--nonsense"], "没有选项 --nonsense  试试: bellevl ask --help"),
        (["ask", "a.png", "--modle", "x"], "没有选项 --modle (是不是 --model?)"),
        (["ask", "-dash.png"], "没有选项 -d (文件名以 - 开头时写成 ./-dash.png)"),
        (["ask", "a.png", "b", "c d", "e"], "多了参数 b (问题里有空格时，整句加引号)"),
        (["see", "a.png", "c d", "e"], "多了参数 c d e"),
        (["show", "--model"], "--model 后面没有写值  试试: bellevl show --help"),
        (["show", "--json=1"], "--json 后面不能写值"),
        (["ask", "a.png", "--seed", "1.5"], "--seed 不能是 '1.5'，不是整数"),
        (["ask", "a.png", "--top-p", "high"], "--top-p 不能是 'high'，不是数字"),
        (["ask", "a.png", "--x\x1b[31m\n错误: 假的"], "没有选项 --x"),
    ],
)
def test_usage_errors_are_exit_2(bellevl: Bellevl, tmp_path: Path, arguments: list[str], said: str) -> None:
    """What cannot be parsed is one Chinese line with the way to help, on stderr, and exit code 2."""
    for name in ("-dash.png", "红 色.png"):
        (tmp_path / name).touch()
    done = bellevl(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and said in lines[0] and "--help" in lines[0] and "\x1b" not in lines[0]
    assert not any(word in lines[0] for word in ("Missing", "requires", "Got ", "Invalid", "No such", "should"))
