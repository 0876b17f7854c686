"""What a person sees: answers to stdout, everything else to stderr. The only file that writes while a model answers.

On a terminal a stage line ("loading …") is rewritten in place and gone when the answer begins; elsewhere nothing is
ever rewritten. Knows no model and no chat.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from ..words import say
from .clean import clean, clean_line

#: Seconds between two stage lines where they cannot be rewritten.
QUIET_SECONDS = 5.0

ERASE_LINE = "\r\x1b[2K"


def prepare_streams() -> None:
    """stdout and stderr as UTF-8 wherever the locale says otherwise; no character can make them fail.

    An encoding that was asked for (PYTHONIOENCODING) stays. stdin is read as UTF-8 then, too. A stream that the
    caller closed reads and writes nothing.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the program ends
    asked = os.environ.get("PYTHONIOENCODING", "").split(":")[0]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=asked or "utf-8", errors="backslashreplace")
    if hasattr(sys.stdin, "reconfigure") and not asked:
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")


class Renderer:
    """Writes answers to `out` and the rest to `err`."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.out = out if out is not None else sys.stdout
        self.err = err if err is not None else sys.stderr
        self.live = self.err.isatty() and os.environ.get("TERM") != "dumb"
        self._stage_shown = False
        self._last_stage = time.monotonic()
        self._at_line_start = True

    def note(self, text: str) -> None:
        """One line that is not an answer."""
        self.end_line()
        self._tell(clean(text) + "\n")

    def say(self, message: str, **facts: object) -> None:
        """One line out of the table of words."""
        self.note(say(message, **facts))

    def stage(self, text: str) -> None:
        """What is going on now; rewritten by the next one."""
        now = time.monotonic()
        if self.live:
            self._tell(ERASE_LINE + self._fitting(clean_line(text)))
            self._stage_shown = True
        elif now - self._last_stage >= QUIET_SECONDS:
            self._tell(clean_line(text) + "\n")
            self._last_stage = now

    def clear_stage(self) -> None:
        if self._stage_shown:
            self._tell(ERASE_LINE)
            self._stage_shown = False

    def answer(self, text: str) -> None:
        """A piece of an answer, clean already, shown at once."""
        if not text:
            return
        self.clear_stage()
        self._at_line_start = text.endswith("\n")  # first: Ctrl-C may come while it is written
        self.out.write(text)
        self.out.flush()

    def end_answer(self) -> None:
        """The answer's one newline. An empty answer is an empty line."""
        self.clear_stage()
        self.out.write("\n")
        self.out.flush()
        self._at_line_start = True

    def line(self, text: str) -> None:
        """One line of a result (show, doctor, JSON) to stdout."""
        self.clear_stage()
        self.out.write(text + "\n")
        self.out.flush()

    def end_line(self) -> None:
        """Ends an answer that was broken off: what follows begins on a line of its own."""
        self.clear_stage()
        if not self._at_line_start:
            self.end_answer()

    def _fitting(self, text: str) -> str:
        """As much of `text` as stands in one line: a line that wraps could not be rewritten."""
        try:
            columns = os.get_terminal_size(self.err.fileno()).columns - 1
        except OSError:
            columns = 79
        if 2 * len(text) <= columns:
            return text
        from rich.cells import cell_len, set_cell_size

        return text if cell_len(text) <= columns else set_cell_size(text, columns)

    def _tell(self, text: str) -> None:
        """To stderr. Where that is a full disk the answer goes on; where its reader is gone it does not."""
        try:
            self.err.write(text)
            self.err.flush()
        except BrokenPipeError:
            raise
        except OSError:
            return
