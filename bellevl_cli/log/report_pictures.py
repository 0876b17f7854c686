"""Pictures as a report carries them, and the boxes of an answer in thousandths of the whole picture.

A picture is encoded anew: nothing that a camera wrote about place and person stays in it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from bellevl.drawing import colours_of
from bellevl.errors import PictureError
from bellevl.grounding import FULL
from bellevl.image import Picture

from ..pictures.boxes import Area, PlacedBox, place, read_boxes
from ..words import cause
from .copies import reopen
from .records import StoredThread, StoredTurn

#: The longer side of a picture in a report, in pixels.
LONGEST_SIDE = 1600

#: Drawings and screenshots stay exact (PNG) up to this many bytes; above it they become JPEG like photos.
LARGEST_PNG = 1_500_000

PHOTOS = frozenset({"JPEG", "MPO", "WEBP", "HEIF", "AVIF", "JPEG2000"})


@dataclass(frozen=True)
class ReportPicture:
    """A whole picture ready to be put into a report. `size` is the original's, `image` and `data` may be smaller."""

    name: str
    size: tuple[int, int]
    image: Image.Image
    data: bytes
    ending: str  # "png" or "jpg"

    @property
    def url(self) -> str:
        kind = "jpeg" if self.ending == "jpg" else "png"
        return f"data:image/{kind};base64,{base64.b64encode(self.data).decode('ascii')}"


def pictures_of(
    thread: StoredThread, given: Mapping[str, Picture], said: Callable[[str], object]
) -> ReportPicture | str | None:
    """The thread's picture; a sentence where it is gone, None where there never was one."""
    picture = given.get(thread.id)
    try:
        if picture is None:
            asked = reopen(thread, said)
            picture = None if asked is None else asked.uncut
    except PictureError as error:
        return cause(error)
    return None if picture is None else report_picture(picture, thread.picture_name or "")


def report_picture(picture: Picture, name: str) -> ReportPicture:
    """`picture` made small enough, without anything but its pixels."""
    image = picture.image.convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    data, ending = _encode(image, "PNG"), "png"
    if picture.format in PHOTOS or len(data) > LARGEST_PNG:
        data, ending = _encode(image, "JPEG", quality=88, optimize=True), "jpg"
    return ReportPicture(name, picture.size, image, data, ending)


def _encode(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    bare = Image.frombytes(image.mode, image.size, image.tobytes())  # pixels alone
    bare.save(buffer, format, **options)
    return buffer.getvalue()


def boxes_of(turn: StoredTurn, size: tuple[int, int], area: Area | None = None) -> list[PlacedBox]:
    """The boxes of an answer in the whole picture of `size`: as they were logged, else as its markup says."""
    logged = [box for n, record in enumerate(turn.boxes, start=1) if (box := _logged_box(n, record, size)) is not None]
    return logged or place(read_boxes(turn.answer).boxes, size, area)


def _logged_box(number: int, record: Any, size: tuple[int, int]) -> PlacedBox | None:
    """A box of a JSON record; None for one that makes no sense."""
    norm = record.get("xyxy_1000") if isinstance(record, dict) else None
    if not (isinstance(norm, list) and len(norm) == 4 and all(type(n) is int and 0 <= n <= FULL for n in norm)):
        return None
    x1, y1, x2, y2 = norm
    width, height = size
    pixels = (x1 * width // FULL, y1 * height // FULL, x2 * width // FULL, y2 * height // FULL)
    return PlacedBox(number, str(record.get("label", "")), pixels, (x1, y1, x2, y2))


def colours(boxes: Sequence[PlacedBox]) -> dict[str, str]:
    """One colour for all boxes of a label."""
    return colours_of([box.label for box in boxes])
