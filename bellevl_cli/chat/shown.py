"""An answer as a person reads it, while it streams: clean, its boxes as names with numbers. Writes nothing."""

from __future__ import annotations

from ..pictures.boxes import BoxText
from ..screen.clean import AnswerText


class ShownAnswer:
    """Takes pieces of the model's text, gives what can be shown. `text` is all of it with the boxes' markup.

    `begun` is what the answer had already, and was shown: only what follows it is given out.
    """

    def __init__(self, raw: bool = False, begun: str = "") -> None:
        self._boxes = BoxText(raw)
        self._clean, self._shown = AnswerText(), AnswerText()
        self._before = 0
        if begun:
            self.push(begun)
            self._before = len(self._shown.text)

    def push(self, piece: str) -> str:
        """What can be shown now."""
        self._clean.push(piece)
        return self._shown.push(self._boxes.push(piece))

    def flush(self) -> str:
        """The end of it."""
        return self._shown.push(self._boxes.flush())

    @property
    def text(self) -> str:
        return self._clean.text

    @property
    def shown(self) -> str:
        """What was given out, but for `begun`."""
        return self._shown.text[self._before :]

    @property
    def boxes(self) -> BoxText:
        return self._boxes


def readable(answer: str | None) -> str:
    """A whole answer as it was shown."""
    shown = ShownAnswer()
    shown.push(answer or "")
    shown.flush()
    return shown.shown
