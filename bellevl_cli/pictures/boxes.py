"""Boxes in an answer: hidden from the reader while it streams, and their places in the person's own picture.

A box's thousandths are of what the model saw, which may be a piece of the picture (`area`). Knows no model and draws
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..screen.clean import clean_line

if TYPE_CHECKING:
    from bellevl.grounding import Box

#: left, top, right, bottom in pixels of the whole upright picture; right and bottom are just outside.
Area = tuple[int, int, int, int]


@dataclass(frozen=True)
class PlacedBox:
    """A box in the whole upright picture. `number` is the one that the reader saw: label[number]."""

    number: int
    label: str
    xyxy_px: Area
    xyxy_1000: Area


class BoxText:
    """Turns `<ref>dog</ref><box>…</box>` into `dog[1]` as an answer streams; never shows a part of a tag.

    With `raw` the text stays as the model wrote it; the boxes are found all the same. How the text is cut into pieces
    makes no difference to `text`, `boxes` (in the order of their numbers) and `bad_boxes`.
    """

    def __init__(self, raw: bool = False) -> None:
        from bellevl.grounding import MarkupFilter

        self._markup = MarkupFilter()
        self._raw = raw

    def push(self, piece: str) -> str:
        """What of `piece`, and of what was held before, can be shown now."""
        shown = self._markup.push(piece)
        return piece if self._raw else shown

    def flush(self) -> str:
        """The end of the answer: what was held and was no tag after all."""
        shown = self._markup.flush()
        return "" if self._raw else shown

    @property
    def boxes(self) -> list[Box]:
        from bellevl.grounding import Box

        return [Box(clean_line(box.label), box.norm) for box in self._markup.boxes]

    @property
    def bad_boxes(self) -> list[str]:
        """Markup that made no sense, as the model wrote it."""
        return [clean_line(markup) for markup in self._markup.malformed]


def read_boxes(answer: str) -> BoxText:
    """A whole answer gone by."""
    text = BoxText()
    text.push(answer)
    text.flush()
    return text


def place(boxes: Sequence[Box], size: tuple[int, int], area: Area | None = None) -> list[PlacedBox]:
    """Boxes of an answer in a picture of `size`; `area` is the piece of it that the model saw, None the whole.

    Inside the picture, and at least a pixel wide and high.
    """
    left, top, right, bottom = area or (0, 0, *size)
    placed = []
    for number, box in enumerate(boxes, start=1):
        x1, y1, x2, y2 = box.pixels(right - left, bottom - top)
        x1, x2 = _span(left + x1, left + x2, size[0])
        y1, y2 = _span(top + y1, top + y2, size[1])
        norm = box.norm if area is None else _thousandths((x1, y1, x2, y2), size)
        placed.append(PlacedBox(number, box.label, (x1, y1, x2, y2), norm))
    return placed


def box_records(boxes: Sequence[Box], size: tuple[int, int], area: Area | None = None) -> list[dict[str, Any]]:
    """What `--json` says about boxes: label, xyxy_px and xyxy_1000, both of the whole upright picture."""
    return [
        {"label": box.label, "xyxy_px": list(box.xyxy_px), "xyxy_1000": list(box.xyxy_1000)}
        for box in place(boxes, size, area)
    ]


def _span(start: int, end: int, length: int) -> tuple[int, int]:
    """Both ends within 0..length, `start` before `end`."""
    start = max(0, min(start, length - 1))
    return start, max(start + 1, min(end, length))


def _thousandths(pixels: Area, size: tuple[int, int]) -> Area:
    x1, y1, x2, y2 = pixels
    width, height = size
    return (
        round(x1 / width * 1000),
        round(y1 / height * 1000),
        round(x2 / width * 1000),
        round(y2 / height * 1000),
    )
