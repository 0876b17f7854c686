"""Nothing leaves the machine: the network guard."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bellevl_cli import guard

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_a_connection_is_refused_and_counted(address: str) -> None:
    """Inside the block no address can be reached, not even this machine's, and each attempt is remembered."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with guard.watch() as refused:
        with socket.socket(family) as one, pytest.raises(guard.NetworkRefusedError) as caught:
            one.connect((address, 9))
        assert caught.value.target == f"{address}:9"
        assert caught.value.module == __name__
    assert [error.host for error in refused] == [address]


def test_a_look_up_is_refused() -> None:
    """Asking for an address is the network too."""
    with guard.watch() as refused:
        with pytest.raises(guard.NetworkRefusedError):
            socket.getaddrinfo("localhost", 443)
        with pytest.raises(guard.NetworkRefusedError):
            socket.gethostbyname("localhost")
    assert [error.host for error in refused] == ["localhost", "localhost"]


def test_a_swallowed_refusal_is_still_counted() -> None:
    """A library that catches everything cannot hide its attempt."""
    with guard.watch() as refused, contextlib.suppress(Exception):
        socket.create_connection(("127.0.0.1", 9))
    assert refused


def test_sockets_of_this_machine_s_files_pass(tmp_path: Path) -> None:
    """A Unix socket is no network."""
    with guard.watch() as refused, socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
    assert refused == []


def test_the_guard_ends_with_its_block() -> None:
    """Behind the block a connection is refused by nobody but the machine."""
    with guard.watch():
        pass
    with socket.socket() as one, pytest.raises(OSError, match="refused"):
        one.connect(("127.0.0.1", 9))


def test_a_guarded_program_ends_with_one_line() -> None:
    """A connection in a guarded program ends it with exit code 1 and one line that names address and module."""
    code = (
        "from bellevl_cli import exits, guard\nimport socket, sys\nguard.install()\n"
        "sys.exit(exits.run(lambda: socket.create_connection(('192.0.2.1', 80)), bool))"
    )
    environment = {"PYTHONPATH": str(ROOT), "BELLEVL_LANG": "zh", "PYTHONUTF8": "1", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 1 and done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and "已阻止网络访问: 192.0.2.1:80 (来自 __main__)" in lines[0]


@pytest.mark.parametrize(("command", "refused"), [("models", True), ("show", True), ("pull", False)])
def test_every_command_but_pull_is_guarded(command: str, refused: bool) -> None:
    """A connection inside any command but `pull` is refused by the program itself, whatever the command does."""
    modules = {"models": "listing", "show": "show", "pull": "pulling"}
    code = (
        "import socket, sys\nfrom bellevl_cli import app, exits\n"
        f"from bellevl_cli.models import {modules[command]} as m\n"
        "m.run = lambda *a: socket.create_connection(('127.0.0.1', 9))\n"
        f"sys.argv = ['bellevl', '{command}']\nsys.exit(exits.run(app._invoke, bool))"
    )
    environment = {"PYTHONPATH": str(ROOT), "BELLEVL_LANG": "zh", "PYTHONUTF8": "1", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 1 and ("已阻止网络访问: 127.0.0.1:9" in done.stderr.decode()) is refused
