"""Completion in bash, zsh and fish, driven in the shells themselves."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
import time
from pathlib import Path

import pexpect
import pytest
from conftest import Bellevl

from bellevl_cli.completing import scripts
from bellevl_cli.completing.tree import SHELLS, nodes

START = {
    "bash": ("bash --norc --noprofile -i", 'bind "set show-all-if-ambiguous on"; PS1="> "; . {script}'),
    "zsh": ("zsh -f -i", 'PS1="> "; autoload -Uz compinit; compinit -u -d {dump}; . {script}'),
    "fish": ("fish -N -i", "source {script}"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures with plain and odd names, a folder and other files."""
    place = tmp_path / "pictures"
    (place / "more").mkdir(parents=True)
    for name in ("dog.jpg", "我的 猫.PNG", "notes.txt", "data.json"):
        (place / name).touch()
    return place


@pytest.fixture
def on_path(tmp_path: Path) -> str:
    """A PATH where `bellevl` is this program."""
    program = tmp_path / "bin" / "bellevl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bellevl_cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


class Shell:
    """An interactive shell in a pseudo-terminal with the completion loaded."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str], path: str) -> None:
        command, setup = START[name]
        env = {**environment, "PATH": path, "TERM": "xterm", "LC_ALL": "C.UTF-8", "BELLEVL_LANG": "en"}
        self.name = name
        self.child = pexpect.spawn(command, env=env, cwd=str(folder), encoding="utf-8", dimensions=(50, 200))
        script = folder.parent / f"script.{name}"
        script.write_text(scripts.script(name), encoding="utf-8")
        self.child.sendline(setup.format(script=script, dump=folder.parent / "dump") + "; echo rea''dy")
        self.child.expect("ready\r\n", timeout=60)

    def completed(self, line: str, expected: str) -> str:
        """What the shell shows after `line` and the tab key, once `expected` is in it."""
        self.child.send(line + "\t")
        shown, end = "", time.monotonic() + 30
        while time.monotonic() < end and expected not in shown:
            try:
                shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\(B", "", self.child.read_nonblocking(10_000, timeout=1))
            except pexpect.TIMEOUT:
                self.child.send("\t")
        with contextlib.suppress(pexpect.TIMEOUT):
            shown += self.child.read_nonblocking(10_000, timeout=0.5)
        self.child.send("\x03" if self.name == "fish" else "\x15")
        return shown


@pytest.mark.parametrize("name", SHELLS)
def test_commands_options_and_only_pictures(name: str, folder: Path, environment: dict[str, str], on_path: str) -> None:
    """Sub-commands, options, words of an option, and behind `ask` pictures and folders but no other file."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed here")
    shell = Shell(name, folder, environment, on_path)
    try:
        assert "verify" in shell.completed("bellevl ver", "verify")
        assert "--full" in shell.completed("bellevl verify --fu", "--full")
        assert "cuda" in shell.completed("bellevl ask x.jpg --device ", "cuda")
        shown = shell.completed("bellevl ask ", "dog.jpg")
        assert "dog.jpg" in shown and "more" in shown and "猫.PNG" in shown
        assert "notes" not in shown and "json" not in shown
        quoted = shell.completed("bellevl ask 我", "猫.PNG")
        assert "我的\\ 猫.PNG" in quoted or "'我的 猫.PNG'" in quoted
        assert "unset" in shell.completed("bellevl config u", "unset")
    finally:
        shell.child.close(force=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_the_script(shell: str) -> None:
    """The script has what the command line has: it is written from it."""
    tree, text = nodes(), scripts.script(shell)
    assert {"ask", "pull", "config"} <= {name for name, _ in tree[0].commands}
    for node in tree:
        assert not node.path or node.path[-1] in text
        for option in node.options:
            assert all((name if shell != "fish" else name.lstrip("-")) in text for name in option.names)


def test_installing_writes_one_line_once(bellevl: Bellevl, environment: dict[str, str]) -> None:
    """--install adds a line to the shell's settings, once, and keeps what was there."""
    rc = Path(environment["HOME"]) / ".bashrc"
    rc.write_text("alias ll='ls -l'", encoding="utf-8")
    first = bellevl("completion", "--install", env={"SHELL": "/usr/bin/bash"})
    again = bellevl("completion", "bash", "--install")
    assert first.returncode == again.returncode == 0, first.stderr.decode()
    lines = rc.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "alias ll='ls -l'" and len(lines) == 2 and lines[1].endswith("# bellevl completion")
    assert "补全已装好" in first.stderr.decode() and "早已装好" in again.stderr.decode()
    assert bellevl("completion", "fish", "--install").returncode == 0
    assert (Path(environment["HOME"]) / ".config/fish/completions/bellevl.fish").is_file()


def test_the_installed_line_loads_the_script_when_it_is_wanted(
    bellevl: Bellevl, environment: dict[str, str], folder: Path, on_path: str
) -> None:
    """A new bash starts no Python; the first tab does, and completes."""
    assert bellevl("completion", "bash", "--install").returncode == 0
    env = {**environment, "PATH": on_path, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    rc = Path(environment["HOME"]) / ".bashrc"
    child = pexpect.spawn("bash", ["--rcfile", str(rc), "-i"], env=env, cwd=str(folder), encoding="utf-8")
    try:
        child.send("bellevl ask do\t")
        child.expect("dog.jpg", timeout=60)
    finally:
        child.close(force=True)


def test_an_unknown_shell_is_exit_2(bellevl: Bellevl) -> None:
    """A shell without completion is told which there are."""
    done = bellevl("completion", "tcsh")
    assert done.returncode == 2 and "bash, zsh" in done.stderr.decode()
