"""The options of `bellevl watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import (
    Debug,
    Device,
    Greedy,
    Json,
    Kv,
    MaxMemory,
    MaxTokens,
    ModelFolder,
    ModelOptions,
    Plain,
    SamplingOptions,
    Seed,
    Stats,
    System,
    Temperature,
    TopP,
    Vision,
)
from ..screen.clean import typed_text
from ..words import say
from .scripts import NoLog, Params, Schema, TemplateName


def watch(
    folder: Annotated[
        Path, typer.Argument(help=say("help.folder"), metavar=say("help.name_folder"), show_default=False)
    ],
    question: Annotated[
        str | None, typer.Argument(help=say("help.question"), metavar=say("help.name_question"), show_default=False)
    ] = None,
    template: TemplateName = None,
    params: Params = None,
    schema: Schema = None,
    existing: Annotated[bool, typer.Option("--existing", help=say("help.existing"), show_default=False)] = False,
    every: Annotated[float, typer.Option("--every", help=say("help.every"), metavar="X", show_default=False)] = 1.0,
    ext: Annotated[str | None, typer.Option("--ext", help=say("help.ext"), metavar="LIST", show_default=False)] = None,
    copy: Annotated[bool, typer.Option("--copy", help=say("help.copy"), show_default=False)] = False,
    json: Json = False,
    no_log: NoLog = False,
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
    plain: Plain = False,
    stats: Stats = False,
    debug: Debug = False,
) -> None:
    from ..asking.watch import WatchOptions, run

    run(
        WatchOptions(
            folder=folder,
            question=question,
            existing=existing,
            every=every,
            copy=copy,
            endings=ext,
            json=json,
            template=template,
            params=tuple(params or ()),
            schema=schema,
            no_log=no_log,
            model=ModelOptions(
                model, device, None if system is None else typed_text(system), None, max_memory, kv=kv, vision=vision
            ),
            sampling=SamplingOptions(max_tokens, greedy, seed, temperature, top_p),
        )
    )
