"""How an answer that is still coming reaches a stream, in four forms. Knows no model and no stderr.

- `RawAnswer`: as it comes. For pipes and `--raw`.
- `SentenceAnswer`: whole sentences, nothing is ever rewritten. For screen readers.
- `LineAnswer`: finished lines, rendered. For a pipe that wants markdown rendered.
- `LiveAnswer`: on a terminal, the last line as it comes and each finished line rendered in its place. Only the rows of
  what is unfinished are ever rewritten; what has left the screen stays as it was written.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from .look import Look
from .markdown import Line, Markdown, rows
from .punctuation import FullWidth
from .wrap import wrap

#: A terminal is drawn at most this often.
FRAME_SECONDS = 1 / 20

#: Up to the last end of a sentence that something follows, closing marks included: 3.5 is no end.
_SENTENCE = re.compile(
    r".*(?:[。！？；…]+[”’」』）)\"']*(?=[^。！？；…”’」』）)\"'])|[.!?]+[”’」』）)\"']*(?=\s)|\n)", re.DOTALL
)

#: Moves to the beginning of the line; erases from there to the end of the screen.
HOME, ERASE = "\r", "\x1b[J"


class StreamedAnswer(Protocol):
    """`push` takes text, `end` shows the rest and ends the line. `open`: something unfinished is on the screen."""

    @property
    def open(self) -> bool: ...

    def push(self, text: str) -> None: ...
    def end(self) -> None: ...


def streamed_answer(out: TextIO, look: Look, full_width: bool = False) -> StreamedAnswer:
    """The form that `look` asks for, onto `out`; `full_width`: on a terminal, with Chinese punctuation in Chinese."""
    if look.format == "live":
        return PunctuatedAnswer(LiveAnswer(out, look)) if full_width else LiveAnswer(out, look)
    if look.format == "markdown":
        return LineAnswer(out, look)
    return SentenceAnswer(out) if look.plain else RawAnswer(out)


class PunctuatedAnswer:
    """Another one, with the punctuation of Chinese in full width."""

    def __init__(self, answer: StreamedAnswer) -> None:
        self._answer, self._text = answer, FullWidth()

    @property
    def open(self) -> bool:
        return self._answer.open or self._text.holds

    def push(self, text: str) -> None:
        if shown := self._text.push(text):
            self._answer.push(shown)

    def end(self) -> None:
        if rest := self._text.flush():
            self._answer.push(rest)
        self._answer.end()


class RawAnswer:
    """Every piece at once."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._open = False

    @property
    def open(self) -> bool:
        return self._open

    def push(self, text: str) -> None:
        self._open = not text.endswith("\n")  # first: Ctrl-C may come while it is written
        self.out.write(text)
        self.out.flush()

    def end(self) -> None:
        """The answer's one newline."""
        self.push("\n")


class SentenceAnswer(RawAnswer):
    """Sentences, each in one write: a screen reader speaks what it is given."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._held = ""

    def push(self, text: str) -> None:
        self._held += text
        if found := _SENTENCE.match(self._held):
            self._held = self._held[found.end() :]
            super().push(found[0])

    @property
    def open(self) -> bool:
        return self._open or bool(self._held)

    def end(self) -> None:
        held, self._held = self._held, ""
        super().push(held + "\n")


class LineAnswer:
    """Finished lines, rendered."""

    def __init__(self, out: TextIO, look: Look) -> None:
        self.out, self.look = out, look
        self._line = ""
        self._empty = True
        self._markdown = Markdown(styled=look.color, columns=screen_size(out)[0])

    @property
    def open(self) -> bool:
        return bool(self._line) or self._markdown.keeps

    def push(self, text: str) -> None:
        *finished, rest = (self._line + text).split("\n")
        self._line = rest
        for line in finished:
            self._write(self._markdown.line(line) or [])

    def end(self) -> None:
        line, self._line = self._line, ""
        self._write((self._markdown.line(line) if line else None) or [])
        self._write(self._markdown.end())
        if self._empty:
            self._write(self._markdown.line("") or [])

    def _write(self, lines: list[Line]) -> None:
        for line in lines:
            self._empty = False
            for row in rows(line, self._markdown.columns, self.look.color):
                self.out.write(row + "\n")
        self.out.flush()


class LiveAnswer:
    """On a terminal. `size` gives its columns and rows, `clock` the time."""

    def __init__(
        self,
        out: TextIO,
        look: Look,
        size: Callable[[], tuple[int, int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.out, self.look = out, look
        self._size = size or (lambda: screen_size(out))
        self._clock = clock
        self._columns, self._height = self._size()
        self._markdown = Markdown(styled=look.color, columns=self._columns)
        self._line = ""  # the unfinished line
        self._row = 0  # where its last row that is on the screen begins
        self._shown = ""  # what that row shows
        self._rows = 0  # rows above the cursor's own that an unfinished block has on the screen
        self._fixed = False  # the block can no longer be rewritten
        self._due = 0.0
        self._empty = True
        self._out = ""  # what is to be written at once

    @property
    def open(self) -> bool:
        return bool(self._line or self._rows)

    def push(self, text: str) -> None:
        self._empty = False
        *finished, rest = text.replace("\t", "    ").split("\n")
        for line in finished:
            self._line += line
            self._finish_line()
        self._line += rest
        if self._clock() >= self._due:
            self._draw()
            self._due = self._clock() + FRAME_SECONDS
        self._flush()

    def end(self) -> None:
        if self._line:
            self._finish_line()
        if self._rows:
            self._replace(self._markdown.end(), "")
        self._out += "\n" if self._empty else ""
        self._empty = False
        self._flush()

    def _finish_line(self) -> None:
        """Puts the rendered line in the place of the raw one; a line that may be part of a table stays raw for now."""
        self._resized()
        self._markdown.columns = self._columns
        alone = not self._markdown.keeps
        rendered = self._markdown.line(self._line)
        if rendered is None or (alone and self._looks_raw(rendered)):
            self._draw()
            self._out += "\n"
            self._rows = self._rows + 1 if rendered is None else 0
        else:
            self._replace(rendered)
        self._line, self._row, self._shown = "", 0, ""
        self._fixed = self._fixed and self._rows > 0

    def _looks_raw(self, rendered: list[Line]) -> bool:
        """Whether the line looks rendered as it looks raw, so that nothing has to be rewritten."""
        [line] = rendered
        return not line.hang and not line.anywhere and [(s.text, s.style) for s in line.spans] == [(self._line, ())]

    def _replace(self, lines: list[Line], newline: str = "\n") -> None:
        """Rewrites the block as `lines`; one that cannot be reached any more is finished as it is."""
        if self._fixed or self._rows >= self._height - 1:
            self._draw()
            self._out += newline
        else:
            if self._rows or self._shown:
                up = f"\x1b[{self._rows}A" if self._rows else ""
                self._out += HOME + up + ERASE
            for line in lines:
                self._out += "".join(row + "\n" for row in rows(line, self._columns, self.look.color))
        self._rows, self._fixed = 0, False

    def _draw(self) -> None:
        """Brings the raw line on the screen up to date, from its last row on."""
        self._resized()
        tail = self._line[self._row :]
        if self._fixed and self._shown:
            self._out += tail[len(self._shown) :]
            self._shown = tail
            return
        placed = wrap(tail, self._columns)
        texts = [tail[row.start : row.end].rstrip(" ") for row in placed]
        if texts[0].startswith(self._shown):
            self._out += texts[0][len(self._shown) :]
        else:
            self._out += HOME + ERASE + texts[0]
        self._out += "".join("\n" + text for text in texts[1:])
        self._rows += len(texts) - 1
        self._row += placed[-1].start
        self._shown = texts[-1]

    def _resized(self) -> None:
        """Where the window's width changed nobody knows which rows the text stands in: it stays as it is."""
        size = self._size()
        if size[0] != self._columns and (self._rows or self._shown):
            self._fixed = True
        self._columns, self._height = size

    def _flush(self) -> None:
        if self._out:
            text, self._out = self._out, ""
            self.out.write(text)
            self.out.flush()


def screen_size(out: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal behind `out`, else what COLUMNS and LINES say, else 80 and 24."""
    try:
        columns, lines = os.get_terminal_size(out.fileno())
    except (OSError, ValueError, AttributeError):
        columns = lines = 0
    columns = columns or _number("COLUMNS") or 80
    return max(columns, 8), max(lines or _number("LINES") or 24, 2)


def _number(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else 0
