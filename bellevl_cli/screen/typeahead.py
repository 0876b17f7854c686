"""What is typed while something is loaded or answered: kept for the next line, never mixed into what is shown.

Knows no prompt: it only sets the terminal's modes, and where there is no such terminal it does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: As termios types them: numbers, and the list of special characters.
Modes = list[Any]

#: Places in them.
INPUT, LOCAL, CHARACTERS = 0, 3, 6

#: The modes from before, while keys are kept.
_before: list[Modes] = []


@contextmanager
def kept() -> Iterator[None]:
    """Keys are neither shown nor changed, Enter too: the prompt reads them later. Ctrl-C stays what it is."""
    before = _modes()
    if before is None:
        yield
        return
    _before.append(before)
    _set(_silent(before))
    try:
        yield
    finally:
        _before.pop()
        _set(before)


@contextmanager
def lifted() -> Iterator[None]:
    """While a person is asked something: the terminal is as it was before keys were kept."""
    if not _before:
        yield
        return
    _set(_before[0])
    try:
        yield
    finally:
        _set(_silent(_before[0]))


def _modes() -> Modes | None:
    """None: no such terminals on this system, or stdin is none."""
    try:
        import termios

        return termios.tcgetattr(sys.stdin)
    except (ImportError, OSError, ValueError):
        return None
    except termios.error:
        return None


def _set(modes: Modes) -> None:
    import termios

    termios.tcsetattr(sys.stdin, termios.TCSANOW, modes)


def _silent(before: Modes) -> Modes:
    import termios

    silent = [*before]
    silent[INPUT] &= ~termios.ICRNL
    silent[LOCAL] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
    silent[CHARACTERS] = [*before[CHARACTERS]]
    silent[CHARACTERS][termios.VMIN], silent[CHARACTERS][termios.VTIME] = 1, 0
    return silent
