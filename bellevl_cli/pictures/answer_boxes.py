"""`bellevl draw`: the boxes of an answer that was given before, drawn and exported. Loads no model."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bellevl.errors import PictureError
from bellevl.grounding import FULL, Box

from ..exits import UsageError
from ..screen.clean import clean_line, read_text, typed_text
from ..screen.render import Renderer
from ..words import say
from .asked import STDIN
from .boxes import Area, PlacedBox, place, read_boxes
from .see import open_wished
from .wishes import PictureWishes

#: Characters of an answer; a longer file is none.
LONGEST_ANSWER = 10 * 2**20


@dataclass(frozen=True)
class DrawOptions:
    """`answer` is a file, or "-" for stdin."""

    picture: str
    answer: str = STDIN
    wishes: PictureWishes = field(default_factory=PictureWishes)


def run(options: DrawOptions, renderer: Renderer | None = None) -> None:
    """Raises PictureError, UsageError, and OSError for files that cannot be read or written."""
    renderer = renderer or Renderer()
    if not options.wishes.keeps_boxes:
        raise UsageError(say("draw.nothing"))
    if options.picture == STDIN and options.answer == STDIN:
        raise UsageError(say("draw.stdin_twice"))
    asked = open_wished(options.picture, options.wishes)
    boxes = answer_boxes(_read(options.answer), asked.uncut.size, asked.area, options.answer)
    tell_kept(renderer, options.wishes.keep(asked, boxes), boxes)


def tell_kept(renderer: Renderer, files: list[Path], boxes: list[PlacedBox]) -> None:
    """Says which files were written and whether anything is in them."""
    if not boxes:
        renderer.say("boxes.none")
    for path in files:
        renderer.say("boxes.written", path=clean_line(typed_text(str(path))), count=len(boxes))


def answer_boxes(text: str, size: tuple[int, int], area: Area | None, name: str = STDIN) -> list[PlacedBox]:
    """Boxes of what `bellevl ask` wrote: one JSON object, or text with the boxes' markup.

    `size` is that of the whole picture, `area` the piece that markup is about. Raises PictureError for JSON that is
    none of ours.
    """
    if not text.lstrip().startswith("{"):
        return place(read_boxes(text).boxes, size, area)
    try:
        record = json.loads(text)
        rows = record["boxes"]
        told = record.get("image", {}).get("size")
        return [_from_record(row, n, size, told == list(size)) for n, row in enumerate(rows, start=1)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "no boxes in it"
        raise PictureError("picture.boxes_file", path=name, reason=reason) from error


def _from_record(row: dict[str, Any], number: int, size: tuple[int, int], same_size: bool) -> PlacedBox:
    """A box of the JSON record, by its pixels where the picture has the same size, else by its thousandths."""
    label = clean_line(str(row["label"]))
    x1, y1, x2, y2 = (min(max(int(value), 0), FULL) for value in row["xyxy_1000"])
    placed = place([Box(label, (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))], size)[0]
    if same_size:
        left, top, right, bottom = (int(value) for value in row["xyxy_px"])
        if 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]:
            return PlacedBox(number, label, (left, top, right, bottom), placed.xyxy_1000)
    return PlacedBox(number, label, placed.xyxy_px, placed.xyxy_1000)


def _read(answer: str) -> str:
    if answer == STDIN:
        if sys.stdin.isatty():
            raise UsageError(say("draw.no_answer"))
        return read_text(sys.stdin.buffer.read(LONGEST_ANSWER))
    with Path(answer).open("rb") as file:
        return read_text(file.read(LONGEST_ANSWER))
