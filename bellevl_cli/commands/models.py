"""The options of `bellevl models`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import Debug, Json
from ..words import say


def models(
    json: Json = False,
    names: Annotated[bool, typer.Option("--names", help=say("help.names"), show_default=False)] = False,
    debug: Debug = False,
) -> None:
    from ..models.listing import run

    run(json, names)
