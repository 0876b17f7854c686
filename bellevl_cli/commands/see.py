"""The options of `bellevl see` and `bellevl draw`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Debug, Json, ModelFolder
from ..pictures.options import AllowHuge, Boxes, BoxesDir, Clip, Crop, Frame
from ..words import say


def see(
    picture: Annotated[
        str | None, typer.Argument(help=say("help.picture"), metavar=say("help.name_picture"), show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=say("help.see_output"), metavar="FILE", show_default=False)
    ] = None,
    clip: Clip = False,
    crop: Crop = None,
    frame: Frame = 1,
    allow_huge: AllowHuge = False,
    model: ModelFolder = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    from ..exits import UsageError
    from ..pictures.see import SeeOptions, run
    from ..pictures.wishes import PictureWishes

    if (picture is None) != clip:
        raise UsageError(say("usage.missing" if picture is None else "see.clip_too", name=say("help.name_picture")))
    wishes = PictureWishes(clip=clip, frame=frame, allow_huge=allow_huge, crop=crop)
    run(SeeOptions(picture, output, json, model, wishes))


def draw(
    picture: Annotated[
        str, typer.Argument(help=say("help.picture"), metavar=say("help.name_picture"), show_default=False)
    ],
    answer: Annotated[
        str, typer.Argument(help=say("help.answer"), metavar=say("help.name_answer"), show_default=False)
    ] = "-",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=say("help.draw_to"), metavar="FILE", show_default=False)
    ] = None,
    boxes: Boxes = None,
    boxes_dir: BoxesDir = None,
    crop: Crop = None,
    frame: Frame = 1,
    allow_huge: AllowHuge = False,
    debug: Debug = False,
) -> None:
    from ..pictures.answer_boxes import DrawOptions, run
    from ..pictures.wishes import PictureWishes

    wishes = PictureWishes(frame=frame, allow_huge=allow_huge, crop=crop, draw=output, boxes=boxes, boxes_dir=boxes_dir)
    run(DrawOptions(picture, answer, wishes))
