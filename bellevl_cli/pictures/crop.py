"""A piece of a picture: by pixels, by percent, by a word for a corner, or around a box of an answer.

The model squeezes whatever it gets into its square, so a piece is seen larger. Knows no model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bellevl.errors import PictureError

from .boxes import Area, place

if TYPE_CHECKING:
    from bellevl.grounding import Box
    from bellevl.image import Picture

    from .asked import AskedPicture

#: A piece smaller than this many pixels either way shows nothing.
SMALLEST = 4

#: Around a box as much of its own size is seen on each side.
MARGIN = 0.25

_HALVES = {"left": (0, 50), "right": (50, 100), "top": (0, 50), "bottom": (50, 100), "centre": (25, 75)}

#: word -> (across, down) as parts of _HALVES; "" is all of that side.
_WORDS = {
    "左上": ("left", "top"), "右上": ("right", "top"), "左下": ("left", "bottom"), "右下": ("right", "bottom"),
    "左": ("left", ""), "右": ("right", ""), "上": ("", "top"), "下": ("", "bottom"), "中": ("centre", "centre"),
    "top-left": ("left", "top"), "top-right": ("right", "top"), "bottom-left": ("left", "bottom"),
    "bottom-right": ("right", "bottom"), "left": ("left", ""), "right": ("right", ""), "top": ("", "top"),
    "bottom": ("", "bottom"), "center": ("centre", "centre"), "centre": ("centre", "centre"),
}  # fmt: skip

_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)\s*(%|px)?", re.IGNORECASE)


def crop(picture: Picture, spec: str) -> tuple[Picture, Area]:
    """The piece of `picture` that a person wrote, and where it lies in it. Raises PictureError.

    "100,200,800,600": left, top, right, bottom in pixels of the upright picture, or in percent with %; "左上",
    "top-left" and the like: that half or quarter. What reaches beyond the picture is cut off there.
    """
    area = parse_area(spec, picture.size)
    return cut(picture, area), area


def crop_asked(asked: AskedPicture, spec: str) -> AskedPicture:
    """The same for a picture that was named; a piece of a piece is counted in the piece. Raises PictureError."""
    piece, area = crop(asked.picture, spec)
    return within(asked, piece, area)


def zoom(asked: AskedPicture, boxes: Sequence[Box], number: int) -> AskedPicture:
    """The piece around box `number` of an answer about `asked`, with some room on each side. Raises PictureError."""
    if not 1 <= number <= len(boxes):
        raise PictureError("picture.no_box", number=number, boxes=len(boxes))
    area = around(place(boxes, asked.picture.size)[number - 1].xyxy_px, asked.picture.size)
    return within(asked, cut(asked.picture, area), area)


def within(asked: AskedPicture, piece: Picture, area: Area) -> AskedPicture:
    """`asked` with a piece of its picture, which lies at `area` of that."""
    left, top = (0, 0) if asked.area is None else asked.area[:2]
    whole_area = (area[0] + left, area[1] + top, area[2] + left, area[3] + top)
    return replace(asked, picture=piece, area=whole_area, whole=asked.uncut)


def parse_area(spec: str, size: tuple[int, int]) -> Area:
    """Where `spec` lies in a picture of `size`. Raises PictureError."""
    text = unicodedata.normalize("NFKC", spec).replace("、", ",").strip().lower()
    values = _word_area(text, size) or _number_area(text, size)
    if values is None:
        raise _wrong(spec, size, "not four numbers and no word for a corner")
    width, height = size
    left, top, right, bottom = values
    if right <= left or bottom <= top:
        raise _wrong(spec, size, "right and bottom come after left and top")
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise _wrong(spec, size, "it lies outside")
    area = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    if min(area[2] - area[0], area[3] - area[1]) < min(SMALLEST, width, height):
        raise _wrong(spec, size, "too small")
    return area


def around(box: Area, size: tuple[int, int]) -> Area:
    """A box and room on each side, as square as the picture allows: less is squeezed then."""
    sides = [box[2] - box[0], box[3] - box[1]]
    wanted = max(max(sides) * (1 + 2 * MARGIN), 32)
    spans = []
    for axis in (0, 1):
        length = min(round(wanted), size[axis])
        start = round((box[axis] + box[axis + 2] - length) / 2)
        start = max(0, min(start, size[axis] - length))
        spans.append((start, start + length))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def cut(picture: Picture, area: Area) -> Picture:
    """The piece of `picture` at `area`. A very large picture is as coarse as it was opened."""
    across, down = picture.image.width / picture.size[0], picture.image.height / picture.size[1]
    left, top = int(area[0] * across), int(area[1] * down)
    right = max(left + 1, min(round(area[2] * across), picture.image.width))
    bottom = max(top + 1, min(round(area[3] * down), picture.image.height))
    image = picture.image.crop((left, top, right, bottom))
    return replace(picture, image=image, size=(area[2] - area[0], area[3] - area[1]), notes=(*picture.notes, "crop"))


def _word_area(text: str, size: tuple[int, int]) -> Area | None:
    if text not in _WORDS:
        return None
    (left, right), (top, bottom) = (_HALVES.get(word, (0, 100)) for word in _WORDS[text])
    across, down = size[0] / 100, size[1] / 100
    return round(left * across), round(top * down), round(right * across), round(bottom * down)


def _number_area(text: str, size: tuple[int, int]) -> Area | None:
    parts = [part for part in re.split(r"[,\s]+", re.sub(r"\s+(?=%|px)", "", text)) if part]
    found = [_NUMBER.fullmatch(part) for part in parts]
    if len(found) != 4:
        return None
    values = []
    for match, length in zip(found, (*size, *size), strict=True):
        if match is None or len(match[1]) > 12:
            return None
        values.append(round(float(match[1]) * (length / 100 if match[2] == "%" else 1)))
    return values[0], values[1], values[2], values[3]


def _wrong(spec: str, size: tuple[int, int], reason: str) -> PictureError:
    return PictureError("picture.crop", spec=spec[:40], size=f"{size[0]}×{size[1]}", reason=reason)
