"""Boxes with their labels, drawn on a copy of a picture.

A label has the same colour in every picture. Labels are written beside their box, inside the picture, and where there
is room not over each other. Knows where boxes are and nothing of how they were found.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .grounding import Box

#: Dark enough for white letters, and told apart also by the colour-blind through the number in the label.
COLOURS = (
    "#d81b60", "#1e7d34", "#1a5fd0", "#b45309", "#7b2fbe", "#00707a",
    "#c2185b", "#8d5524", "#4b5fc4", "#a31515", "#5b6b00", "#9c27b0",
)  # fmt: skip

#: The package's font for labels: Latin, Chinese, kana.
FONT = Path(__file__).parent / "fonts" / "labels.otf"

Corners = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PADDING = 2


@dataclass(frozen=True)
class Marked:
    """A box to draw: left, top, right, bottom in pixels of the image, the last two just outside."""

    label: str
    number: int
    corners: Corners


def draw_boxes(image: Image.Image, boxes: Iterable[Box]) -> Image.Image:
    """A copy of `image` with each box of an answer about it, and its label with its number."""
    width, height = image.size
    return draw_marked(image, [Marked(b.label, n, b.pixels(width, height)) for n, b in enumerate(boxes, start=1)])


def draw_marked(image: Image.Image, boxes: Sequence[Marked], line: int | None = None) -> Image.Image:
    """A copy of `image` with `boxes`: first all frames, `line` pixels wide (None: as suits its size), then the labels
    over them."""
    drawn = image.convert("RGB")
    if drawn is image:
        drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    side = (drawn.width * drawn.height) ** 0.5
    colours = colours_of([box.label for box in boxes])
    width = line or max(round(side / 250), 2)
    for box in boxes:
        draw.rectangle(_edges(box.corners, drawn.size), outline=colours[box.label], width=width)
    font = font_of(max(round(side / 32), 12))
    taken: list[Corners] = []
    for box in boxes:
        text, small = _fitting(box, font, drawn.width)
        taken.append(_write(draw, drawn.size, box.corners, text, small, colours[box.label], taken))
    return drawn


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label: the same one wherever that label occurs, unless another here has it already."""
    colours: dict[str, str] = {}
    for label in labels:
        if label in colours:
            continue
        first = zlib.crc32(label.encode("utf-8", "replace")) % len(COLOURS)
        order = [COLOURS[(first + n) % len(COLOURS)] for n in range(len(COLOURS))]
        colours[label] = next((colour for colour in order if colour not in colours.values()), order[0])
    return colours


@lru_cache(maxsize=16)
def font_of(size: int) -> Font:
    """The package's font, or Pillow's own where the package was installed without it."""
    try:
        return ImageFont.truetype(str(FONT), size)
    except OSError:
        return ImageFont.load_default(size)


def caption(label: str, number: int, font: Font) -> str:
    """Label and number, without the characters that the font lacks."""
    blank = bytes(font.getmask("\uffff"))
    known = "".join(c for c in label if c.isspace() or bytes(font.getmask(c)) != blank).strip()
    return f"{known}[{number}]"


def _edges(corners: Corners, size: tuple[int, int]) -> Corners:
    """The outermost pixels of a box, in the picture."""
    left, top = min(corners[0], size[0] - 1), min(corners[1], size[1] - 1)
    return left, top, max(left, corners[2] - 1), max(top, corners[3] - 1)


def _fitting(box: Marked, font: Font, width: int) -> tuple[str, Font]:
    """The caption, cut and at last smaller until it is no wider than the picture."""
    label = box.label
    text = caption(label, box.number, font)
    while font.getlength(text) + 2 * PADDING > width and label:
        label = label[: len(label) - max(1, len(label) // 8)]
        text = caption(label + "…", box.number, font)
    size = getattr(font, "size", 0)
    while font.getlength(text) + 2 * PADDING > width and size > 6:
        size -= 1
        font = font_of(int(size))
    return text, font


def _write(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corners: Corners,
    text: str,
    font: Font,
    colour: str,
    taken: list[Corners],
) -> Corners:
    """White text on `colour`; returns the place it took."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = int(right - left) + 2 * PADDING, int(bottom - top) + 2 * PADDING
    places = [_inside(place, width, height, size) for place in _places(corners, width, height)]
    place = min(places, key=lambda p: sum(_shared(p, other) for other in taken))  # the first of equally free ones
    draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=colour)
    draw.text((place[0] + PADDING - left, place[1] + PADDING - top), text, font=font, fill="white")
    return place


def _places(corners: Corners, width: int, height: int) -> list[tuple[int, int]]:
    """Where a label may begin: above its box, in its corners, below it, beside it; best first."""
    left, top, right, bottom = corners
    first = [(left, top - height)] if top >= height else [(left, top)]
    return [
        *first, (left, top), (right - width, top - height), (right - width, top), (left, bottom),
        (left, bottom - height), (right - width, bottom - height), (right, top), (left - width, top),
    ]  # fmt: skip


def _inside(place: tuple[int, int], width: int, height: int, size: tuple[int, int]) -> Corners:
    """A label at `place`, moved so that all of it is in the picture."""
    x = max(min(place[0], size[0] - width), 0)
    y = max(min(place[1], size[1] - height), 0)
    return x, y, x + width, y + height


def _shared(one: Corners, other: Corners) -> int:
    """Pixels that both cover."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)
