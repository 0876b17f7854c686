"""The command line itself: help, version, usage errors."""

from __future__ import annotations

import pytest
from conftest import Bellevl

from bellevl import __version__

COMMANDS = ("ask", "chat", "quantize", "show", "doctor")


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
    assert not any(word in text for word in ("Options:", "Arguments:", "Usage:", "Show this message"))
    assert width(text) <= 80


def test_version(bellevl: Bellevl) -> None:
    """--version is the package's."""
    assert bellevl("--version").stdout.decode() == f"bellevl {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask"], "PICTURE"),
        (["aks"], "是不是 ask"),
        (["ask", "a.png", "--nonsense"], "--nonsense"),
        (["ask", "a.png", "b", "c"], "c"),
        (["show", "--model"], "--model"),
    ],
)
def test_usage_errors_are_exit_2(bellevl: Bellevl, arguments: list[str], said: str) -> None:
    """What cannot be parsed is one line with the way to help, on stderr, and exit code 2."""
    done = bellevl(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and said in lines[0] and "--help" in lines[0]
