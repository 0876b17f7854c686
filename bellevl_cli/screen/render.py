"""What a person sees: answers to stdout, everything else to stderr. The only file that writes while a model answers.

On a terminal a stage line ("loading …") is rewritten in place and gone when the answer begins; elsewhere nothing is
ever rewritten. Knows no model and no chat.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from ..words import say
from .clean import clean, clean_line
from .look import Asked, look_of, painted, setting
from .stage import ERASE_LINE as ERASE_LINE
from .stage import StageLine, clear_all

if TYPE_CHECKING:
    from .live import StreamedAnswer


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


def first_sign() -> None:
    """The first stage, before anything that takes long is imported; the first thing that is said takes its place."""
    Renderer().stage(say("stage.start"))


class Renderer:
    """Writes answers to `out` and the rest to `err`, in the way that was `asked` for (the command line's options)."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, asked: Asked | None = None) -> None:
        self.out = out if out is not None else sys.stdout
        self.err = err if err is not None else sys.stderr
        self.look = look_of(self.out.isatty(), asked)
        self.err_look = look_of(self.err.isatty(), asked)
        self.live = self.err_look.live
        self._stage = StageLine(self._tell, self._fitting, self.live)
        self._answer: StreamedAnswer | None = None

    def note(self, text: str) -> None:
        """One line that is not an answer."""
        self.end_line()
        self._tell(painted(clean(text), self.err_look.color) + "\n")

    def say(self, message: str, **facts: object) -> None:
        """One line out of the table of words."""
        self.note(say(message, **facts))

    def stage(self, text: str) -> None:
        """What is going on now; rewritten by the next one."""
        self._stage.show(clean_line(text))

    def restage(self, text: str) -> None:
        """Another stage, where there is one on the screen: a model that is asked by a program says nothing."""
        if self._stage.shown:
            self.stage(text)

    def progress(self, part: float) -> None:
        """How much of the stage is done, 0 to 1."""
        self._stage.progress(part)

    def clear_stage(self) -> None:
        clear_all()

    def answer(self, text: str) -> None:
        """A piece of an answer, clean already, shown at once."""
        if not text:
            return
        self.clear_stage()
        self._streamed().push(text)

    def end_answer(self) -> None:
        """The answer's one newline. An empty answer is an empty line."""
        self.clear_stage()
        answer, self._answer = self._streamed(), None
        answer.end()

    def line(self, text: str) -> None:
        """One line of a result (show, doctor, JSON) to stdout."""
        self.clear_stage()
        self.out.write(text + "\n")
        self.out.flush()

    def drawing(self, sequences: str) -> None:
        """A picture in the terminal's own language (pictures/terminal.py), its line end included, to stdout."""
        self.end_line()
        self.out.write(sequences)
        self.out.flush()

    def end_line(self) -> None:
        """Ends an answer that was broken off: what follows begins on a line of its own."""
        self.clear_stage()
        answer, self._answer = self._answer, None
        if answer is not None and answer.open:
            answer.end()

    def _streamed(self) -> StreamedAnswer:
        """The answer that is being shown, begun with its first piece."""
        if self._answer is None:
            from .live import streamed_answer

            full_width = self.look.format == "live" and setting("punctuation") == "full"
            self._answer = streamed_answer(self.out, self.look, full_width)
        return self._answer

    def _fitting(self, text: str) -> str:
        """As much of `text` as stands in one line: a line that wraps could not be rewritten."""
        from .live import screen_size

        columns = screen_size(self.err)[0] - 1
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
