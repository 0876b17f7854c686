"""Text to the clipboard: through the program that this system has for it, else through the terminal itself (OSC 52),
which works over ssh, too. Reads nothing and prints nothing but that one sequence.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

#: A program that takes the text and does not end must not hold up this one.
PATIENCE_SECONDS = 5.0

#: Terminals drop longer sequences (xterm's limit, in characters of base64).
LONGEST_SEQUENCE = 74_994


def copy(text: str, terminal: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The program that took `text`, or "OSC 52" for the terminal; None where nobody can take it."""
    for command in _commands(environ):
        if _given_to(command, text):
            return command[0]
    if terminal is None or not terminal.isatty() or environ.get("TERM", "dumb") in ("dumb", "linux"):
        return None
    sequence = terminal_sequence(text, environ)
    if sequence is None:
        return None
    terminal.write(sequence)
    terminal.flush()
    return "OSC 52"


def terminal_sequence(text: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """OSC 52 for `text`, wrapped where tmux stands between; None for more than terminals take."""
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")
    if len(encoded) > LONGEST_SEQUENCE:
        return None
    sequence = f"\x1b]52;c;{encoded}\x07"
    return f"\x1bPtmux;\x1b{sequence}\x1b\\" if environ.get("TMUX") else sequence


def _commands(environ: Mapping[str, str]) -> Iterator[list[str]]:
    """Programs that could take text here, best first."""
    if environ.get("WAYLAND_DISPLAY"):
        yield ["wl-copy"]
    if environ.get("DISPLAY"):
        yield ["xclip", "-selection", "clipboard"]
    if sys.platform == "darwin":
        yield ["pbcopy"]
    if sys.platform == "win32" or environ.get("WSL_DISTRO_NAME"):
        yield ["clip.exe"]


def _given_to(command: list[str], text: str) -> bool:
    program = shutil.which(command[0])
    if program is None:
        return False
    encoding = "utf-16-le" if command[0] == "clip.exe" else "utf-8"
    try:
        done = subprocess.run(  # noqa: S603 - one of four known programs, its arguments stand above
            [program, *command[1:]],
            input=text.encode(encoding, "replace"),
            stdout=subprocess.DEVNULL,  # xclip and wl-copy stay behind and would keep a pipe open
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_CTYPE": "UTF-8"} if command[0] == "pbcopy" else None,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
