"""The options of `bellevl verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import Debug, Json, ModelFolder
from ..words import say


def verify(
    model: ModelFolder = None,
    full: Annotated[bool, typer.Option("--full", help=say("help.full"), show_default=False)] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    from ..models.verifying import run

    run(model, full, json)
