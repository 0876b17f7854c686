"""The options of `bellevl chat`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import (
    Debug,
    Device,
    Greedy,
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


def chat(
    picture: Annotated[
        str | None, typer.Argument(help=say("help.chat_picture"), metavar=say("help.name_picture"), show_default=False)
    ] = None,
    model: ModelFolder = None,
    device: Device = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    greedy: Greedy = False,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    debug: Debug = False,
) -> None:
    from ..chat.repl import run

    run(
        picture,
        ModelOptions(model, device, None if system is None else typed_text(system)),
        SamplingOptions(max_tokens, greedy, seed, temperature, top_p),
    )
