"""An answer's boxes drawn on the person's picture, into a file. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .boxes import Area, PlacedBox, place
from .saving import checked_target, save_image

if TYPE_CHECKING:
    from PIL import Image

    from bellevl.grounding import Box
    from bellevl.image import Picture


def draw_boxes(picture: Picture, boxes: Sequence[Box], path: Path, area: Area | None = None) -> Path:
    """Writes the whole upright `picture` with `boxes`; `area` is the piece of it that the model saw.

    Raises PictureError for an ending that is no picture's and for the picture's own file, OSError where it cannot be
    written.
    """
    return draw_placed(picture, place(boxes, picture.size, area), path)


def draw_placed(picture: Picture, boxes: Sequence[PlacedBox], path: Path) -> Path:
    """The same for boxes that are placed in the whole picture already."""
    checked_target(path, picture)
    save_image(drawn(picture, boxes), path)
    return path


def drawn(picture: Picture, boxes: Sequence[PlacedBox], line: int | None = None) -> Image.Image:
    """The picture's image with `boxes`, their frames `line` pixels wide (None: as suits the picture); a very large
    picture is drawn as small as it was opened."""
    from bellevl.drawing import Marked, draw_marked

    across = picture.image.width / picture.size[0]
    down = picture.image.height / picture.size[1]
    marked = []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy_px
        corners = (int(x1 * across), int(y1 * down), round(x2 * across), round(y2 * down))
        marked.append(Marked(box.label, box.number, corners))
    return draw_marked(picture.image, marked, line)
