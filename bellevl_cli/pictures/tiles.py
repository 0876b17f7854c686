"""Long pictures in overlapping tiles, and the answers about them put together again.

The model squeezes a picture into a square: of a page of 1000 × 8000 pixels it could read nothing. Tiles are about as
long as the picture is wide and end where little is to be seen, so that no line of text is cut. Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bellevl.errors import PictureError

from .boxes import Area
from .crop import cut, within

if TYPE_CHECKING:
    import numpy as np

    from bellevl.image import Picture

    from .asked import AskedPicture

#: A picture longer than this many times its width, or wider than so many times its height, is worth cutting.
LONG = 2.5

#: Neighbours share this part of a tile.
OVERLAP = 0.15

#: More tiles than this are not made: each costs an answer.
MOST_TILES = 40


@dataclass(frozen=True)
class Tile:
    """A piece of a long picture: number `number` of `count`, at `area` of it."""

    picture: Picture
    area: Area
    number: int
    count: int


def is_long(picture: Picture) -> bool:
    """Whether the model would squeeze the picture so much that tiles are better."""
    width, height = picture.size
    return max(width, height) > LONG * min(width, height)


def tiles(picture: Picture, count: int | None = None) -> list[Tile]:
    """`picture` in tiles along its longer side, in reading order; `count` None: as many as make them square.

    A picture that is not long is one tile then. Raises PictureError for a count out of range.
    """
    if count is None:
        count = _square_count(picture.size) if is_long(picture) else 1
    if not 1 <= count <= MOST_TILES:
        raise PictureError("picture.tiles", count=count, most=MOST_TILES)
    down = picture.size[1] >= picture.size[0]
    spans = _spans(picture, down, count)
    width, height = picture.size
    areas = [(0, start, width, end) if down else (start, 0, end, height) for start, end in spans]
    return [Tile(cut(picture, area), area, n, len(areas)) for n, area in enumerate(areas, start=1)]


def tile_asked(asked: AskedPicture, tile: Tile) -> AskedPicture:
    """A tile as a picture to ask about; its boxes are placed in the whole."""
    return within(asked, tile.picture, tile.area)


def join_answers(answers: Sequence[str]) -> str:
    """The tiles' answers one after the other; lines that two neighbours both read are said once."""
    lines: list[str] = []
    for answer in answers:
        new = answer.strip().splitlines()
        lines += new[_repeated(lines, new) :]
    return "\n".join(lines)


def _repeated(before: Sequence[str], after: Sequence[str]) -> int:
    """How many lines at the beginning of `after` are those at the end of `before`."""
    keys_before, keys_after = [_letters(line) for line in before], [_letters(line) for line in after]
    for length in range(min(len(before), len(after)), 0, -1):
        if keys_before[-length:] == keys_after[:length] and any(keys_after[:length]):
            return length
    return 0


def _letters(line: str) -> str:
    return "".join(c for c in line.casefold() if c.isalnum())


def _square_count(size: tuple[int, int]) -> int:
    """Tiles so that each is about a square, with what they share."""
    ratio = max(size) / min(size)
    return min(max(math.ceil((ratio - OVERLAP) / (1 - OVERLAP)), 2), MOST_TILES)


def _spans(picture: Picture, down: bool, count: int) -> list[tuple[int, int]]:
    """Where each tile begins and ends along the longer side, in pixels of the whole picture."""
    length = picture.size[1] if down else picture.size[0]
    if count == 1 or length < 2 * count:
        return [(0, length)]
    tile = length / (count - (count - 1) * OVERLAP)
    step = tile * (1 - OVERLAP)
    room = tile * OVERLAP / 3  # an edge moves by no more, so that two neighbours always share something
    activity = _activity(picture, down)
    scale = len(activity) / length

    def edge(at: float) -> int:
        return round(_calmest(activity, (at - room) * scale, (at + room) * scale) / scale)

    starts = [0, *(edge(step * n) for n in range(1, count))]
    ends = [*(edge(step * n + tile) for n in range(count - 1)), length]
    return list(zip(starts, ends, strict=True))


def _activity(picture: Picture, down: bool) -> np.ndarray:
    """How much is to be seen in each row (or column, for a wide picture): the mean difference of neighbours in it."""
    import numpy as np

    image = picture.image.convert("L")
    narrow = (min(image.width, 512), image.height) if down else (image.width, min(image.height, 512))
    grey = np.asarray(image.resize(narrow), dtype=np.float32)  # [H, W]
    return np.abs(np.diff(grey, axis=1 if down else 0)).mean(axis=1 if down else 0)


def _calmest(activity: np.ndarray, start: float, end: float) -> float:
    """The middle of the calmest stretch between two places."""
    import numpy as np

    first, last = max(int(start), 0), min(math.ceil(end) + 1, len(activity))
    stretch = activity[first:last]
    if not len(stretch):
        return (start + end) / 2
    calm = np.flatnonzero(stretch <= stretch.min() + 0.5)
    runs = np.split(calm, np.flatnonzero(np.diff(calm) > 1) + 1)
    longest = max(runs, key=len)
    return first + float(longest[len(longest) // 2])
