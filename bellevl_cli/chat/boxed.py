"""The boxes of an answer on its picture: shown in the terminal where it can, kept in a file beside the log.

Where nothing is logged nothing is kept. `/set draw_boxes off` and the setting of that name switch both off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..log.copies import drawn_folder
from ..pictures.boxes import place
from ..pictures.drawing import drawn
from ..pictures.saving import save_image
from ..pictures.terminal import line_width
from ..screen.clean import clean_line, typed_text
from ..words import reason

if TYPE_CHECKING:
    from bellevl.grounding import Box
    from bellevl.image import Picture

    from .repl import ChatLoop

#: The longer side of what is kept, in pixels: an answer shall not wait for a photo to be compressed.
LONGEST_SIDE = 1600

#: Characters of a picture's name in the file's.
LONGEST_NAME = 60


def show_boxes(loop: ChatLoop, boxes: Sequence[Box]) -> None:
    """After an answer with `boxes` about the current picture. Raises nothing: the answer is there already."""
    thread = loop.threads.current
    if not (loop.draw_boxes and loop.lines.interactive and boxes) or thread.picture is None:
        return
    picture = thread.picture
    whole, placed = _smaller(picture.uncut), place(boxes, picture.uncut.size, picture.area)
    image, line = drawn(whole, placed), line_width(whole.image.size)
    loop.draw(drawn(whole, placed, line) if line else image)
    if not loop.log.on or thread.log_id is None:
        return
    try:
        path = drawn_folder(thread.log_id) / file_name(picture.name)
        save_image(image, path)
    except OSError as error:
        loop.say("chat.boxes_not_kept", reason=clean_line(reason(error.strerror or str(error))))
    else:
        loop.say("boxes.written", path=clean_line(typed_text(str(path))), count=len(boxes))


def file_name(picture: str) -> str:
    """ "photos/cat.jpg" -> "cat.boxes.png"; a name of the clipboard or of stdin is as good."""
    stem = clean_line(typed_text(Path(picture).stem)).strip(". ")[:LONGEST_NAME]
    return f"{stem or 'picture'}.boxes.png"


def _smaller(picture: Picture) -> Picture:
    """The same picture, at most LONGEST_SIDE wide and high; boxes are placed by its size before."""
    if max(picture.image.size) <= LONGEST_SIDE:
        return picture
    image = picture.image.copy()
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return replace(picture, image=image)
