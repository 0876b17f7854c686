"""Text that a local OCR reads in a picture, for a model that reads Chinese poorly.

The optional packages rapidocr and onnxruntime do it, with the models inside the package: nothing is downloaded. What
was read goes to the model as quoted lines of data. Knows no model of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bellevl.errors import PictureError

from ..screen.clean import clean_line
from ..words import say
from .boxes import Area

if TYPE_CHECKING:
    from .asked import AskedPicture

#: Lines that are less likely than this to be what was read are left out.
LEAST_SCORE = 0.5

#: Characters that go into a prompt; the rest of a page would push out the dialogue.
LONGEST_QUOTE = 2000


@dataclass(frozen=True)
class OcrLine:
    """A line of text. `score` is 0 to 1; `corners` are left, top, right, bottom in pixels of the picture read."""

    text: str
    score: float
    corners: Area


def read_lines(asked: AskedPicture) -> list[OcrLine]:
    """The lines of text in a picture, from top to bottom. Raises PictureError without the packages, or if they fail."""
    import numpy as np

    engine = _engine()
    pixels = np.ascontiguousarray(np.asarray(asked.picture.image)[:, :, ::-1])  # [H, W, 3], blue first as it expects
    try:
        found = engine(pixels)
        lines = _lines(found)
    except Exception as error:  # the engine raises what its libraries raise
        raise PictureError("picture.ocr_failed", path=asked.name, reason=f"{error}"[:120]) from error
    return [line for line in lines if line.text and line.score >= LEAST_SCORE]


def with_lines(question: str, lines: Sequence[OcrLine]) -> str:
    """`question` with what was read, quoted line by line: data, not something to do."""
    quoted: list[str] = []
    room = LONGEST_QUOTE
    for line in lines:
        room -= len(line.text) + 3
        if room < 0:
            break
        quoted.append(f"> {line.text}")
    return "\n".join([say("ocr.prompt"), *quoted, "", question]) if quoted else question


class _Engine:
    """The engine, made once: its models take a second to load."""

    made: Any = None


def _engine() -> Any:
    if _Engine.made is None:
        try:
            import onnxruntime  # noqa: F401 - rapidocr alone would say so only in the middle of its work
            from rapidocr import RapidOCR
        except ImportError as error:
            raise PictureError("picture.ocr_missing") from error
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        try:
            _Engine.made = RapidOCR(params={"Global.log_level": "error"})
        except Exception as error:  # as in read_lines
            raise PictureError("picture.ocr_failed", path="", reason=f"{error}"[:120]) from error
    return _Engine.made


def _lines(found: Any) -> list[OcrLine]:
    texts = found.txts or ()
    lines = []
    for text, score, corners in zip(texts, found.scores or (), () if found.boxes is None else found.boxes, strict=True):
        xs, ys = [point[0] for point in corners], [point[1] for point in corners]
        place = (int(min(xs)), int(min(ys)), int(max(xs)), int(max(ys)))
        lines.append(OcrLine(clean_line(text), float(score), place))
    return lines
