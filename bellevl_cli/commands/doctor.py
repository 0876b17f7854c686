"""The options of `bellevl doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import Debug, Json
from ..words import say


def doctor(
    net: Annotated[bool, typer.Option("--net", help=say("help.net"), show_default=False)] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    from ..doctor import run

    run(net, json)
