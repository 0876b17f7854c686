"""Options about pictures that commands share. Their help is the table of words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..words import say

Clip = Annotated[bool, typer.Option("--clip", "-C", help=say("help.clip"), show_default=False)]
Frame = Annotated[int, typer.Option("--frame", help=say("help.frame"), metavar="N", show_default=False)]
AllowHuge = Annotated[bool, typer.Option("--allow-huge", help=say("help.allow_huge"), show_default=False)]
Crop = Annotated[str | None, typer.Option("--crop", help=say("help.crop"), metavar="X,Y,X,Y", show_default=False)]
Tiles = Annotated[str | None, typer.Option("--tiles", help=say("help.tiles"), metavar="auto|N", show_default=False)]
Draw = Annotated[Path | None, typer.Option("--draw", help=say("help.draw_to"), metavar="FILE", show_default=False)]
Boxes = Annotated[str | None, typer.Option("--boxes", help=say("help.boxes"), metavar="LIST", show_default=False)]
BoxesDir = Annotated[
    Path | None, typer.Option("--boxes-dir", help=say("help.boxes_dir"), metavar="DIR", show_default=False)
]
Ocr = Annotated[str | None, typer.Option("--ocr", help=say("help.ocr"), metavar="on|only", show_default=False)]
