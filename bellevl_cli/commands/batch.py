"""The options of `bellevl batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import (
    Debug,
    Device,
    Encoding,
    Greedy,
    Kv,
    MaxMemory,
    MaxTokens,
    ModelFolder,
    ModelOptions,
    Plain,
    SamplingOptions,
    Seed,
    System,
    Temperature,
    TopP,
    Vision,
)
from ..pictures.options import AllowHuge, Boxes, BoxesDir, Crop, Frame
from ..screen.clean import typed_text
from ..words import say
from .scripts import Params, Question, Schema, TemplateName


def batch(
    words: Annotated[
        list[str] | None, typer.Argument(help=say("help.sources"), metavar=say("help.name_sources"), show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=say("help.batch_output"), metavar="FILE", show_default=False),
    ] = None,
    question: Question = None,
    template: TemplateName = None,
    params: Params = None,
    schema: Schema = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help=say("help.recursive"), show_default=False)
    ] = False,
    ext: Annotated[str | None, typer.Option("--ext", help=say("help.ext"), metavar="LIST", show_default=False)] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help=say("help.limit"), metavar="N", show_default=False)
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help=say("help.csv"), metavar="FILE", show_default=False)] = None,
    sidecar: Annotated[
        str | None, typer.Option("--sidecar", help=say("help.sidecar"), metavar="EXT", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help=say("help.overwrite"), show_default=False)] = False,
    crop: Crop = None,
    frame: Frame = 1,
    allow_huge: AllowHuge = False,
    boxes: Boxes = None,
    boxes_dir: BoxesDir = None,
    model: ModelFolder = None,
    device: Device = None,
    max_memory: MaxMemory = None,
    kv: Kv = None,
    vision: Vision = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    greedy: Greedy = False,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    encoding: Encoding = None,
    plain: Plain = False,
    debug: Debug = False,
) -> None:
    from ..asking.batch import BatchOptions, run
    from ..pictures.wishes import PictureWishes

    run(
        BatchOptions(
            words=tuple(words or ()),
            question=question,
            output=output,
            recursive=recursive,
            endings=ext,
            limit=limit,
            csv=csv,
            sidecar=sidecar,
            overwrite=overwrite,
            wishes=PictureWishes(frame=frame, allow_huge=allow_huge, crop=crop, boxes=boxes, boxes_dir=boxes_dir),
            template=template,
            params=tuple(params or ()),
            schema=schema,
            model=ModelOptions(
                model, device, None if system is None else typed_text(system), None, max_memory, kv=kv, vision=vision
            ),
            sampling=SamplingOptions(max_tokens, greedy, seed, temperature, top_p),
        )
    )
