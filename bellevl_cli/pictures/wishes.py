"""What a person wants done with a picture before it is asked about, and with its boxes afterwards.

The one door for commands: check first, open, ask about each piece, keep the boxes. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bellevl.errors import PictureError

from . import exports
from .asked import AskedPicture, open_asked, opening
from .boxes import PlacedBox
from .crop import crop_asked
from .drawing import draw_placed
from .saving import checked_target
from .tiles import MOST_TILES, is_long, tile_asked, tiles

#: Where boxes are exported to unless `--boxes-dir` says.
BOXES_FOLDER = Path("boxes")


@dataclass(frozen=True)
class PictureWishes:
    """`tiles` is "auto", a number, or None and "0" for one piece; `boxes` the formats, with commas between."""

    clip: bool = False
    frame: int = 1
    allow_huge: bool = False
    crop: str | None = None
    tiles: str | None = None
    draw: Path | None = None
    boxes: str | None = None
    boxes_dir: Path | None = None

    @property
    def keeps_boxes(self) -> bool:
        """Whether anything is written about boxes."""
        return self.draw is not None or self.boxes is not None

    def check(self) -> None:
        """Before anything is opened. Raises PictureError for wrong words, OSError for a folder that is not there."""
        self.tile_count()
        if self.boxes is not None:
            exports.parse_formats(self.boxes)
        if self.draw is not None:
            checked_target(self.draw)

    def open(self, argument: str) -> AskedPicture:
        """The picture, or the piece of it that is asked about. Raises PictureError."""
        return self.cut(open_asked(argument, opening(self.frame, self.allow_huge)))

    def cut(self, asked: AskedPicture) -> AskedPicture:
        """The piece of a picture that is open already. Raises PictureError, also for `--draw` onto its own file."""
        if self.draw is not None:
            checked_target(self.draw, asked.uncut)
        return asked if self.crop is None else crop_asked(asked, self.crop)

    def tile_count(self) -> int | None:
        """How many tiles; None for "auto". Raises PictureError."""
        text = (self.tiles or "0").strip().lower()
        if text == "auto":
            return None
        if not (text.isascii() and text.isdigit()) or len(text) > 4 or int(text) > MOST_TILES:
            raise PictureError("picture.tiles", count=text[:20], most=MOST_TILES)
        return max(int(text), 1)

    def pieces(self, asked: AskedPicture) -> list[AskedPicture]:
        """What is asked about, one after the other; the picture itself where it is not cut into tiles."""
        count = self.tile_count()
        if count == 1 or (count is None and not is_long(asked.picture)):
            return [asked]
        return [tile_asked(asked, tile) for tile in tiles(asked.picture, count)]

    def keep(self, asked: AskedPicture, boxes: Sequence[PlacedBox]) -> list[Path]:
        """Draws and exports boxes that are placed in the whole picture; returns the files. Raises as they do."""
        written = []
        if self.draw is not None:
            written.append(draw_placed(asked.uncut, boxes, self.draw))
        if self.boxes is not None:
            formats = exports.parse_formats(self.boxes)
            written += exports.write(formats, self.boxes_dir or BOXES_FOLDER, asked, boxes)
        return written
