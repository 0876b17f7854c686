"""The options of `bellevl ask`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import (
    Debug,
    Device,
    Greedy,
    Json,
    MaxTokens,
    ModelFolder,
    ModelOptions,
    SamplingOptions,
    Seed,
    System,
    Temperature,
    TopP,
)
from ..screen.clean import typed_text
from ..words import say


def ask(
    picture: Annotated[
        str, typer.Argument(help=say("help.picture"), metavar=say("help.name_picture"), show_default=False)
    ],
    question: Annotated[
        str | None, typer.Argument(help=say("help.question"), metavar=say("help.name_question"), show_default=False)
    ] = None,
    model: ModelFolder = None,
    device: Device = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    greedy: Greedy = False,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    from ..asking.ask import AskOptions, run

    run(
        AskOptions(
            picture=picture,
            question=typed_text(question or ""),
            json=json,
            model=ModelOptions(model, device, None if system is None else typed_text(system)),
            sampling=SamplingOptions(max_tokens, greedy, seed, temperature, top_p),
        )
    )
