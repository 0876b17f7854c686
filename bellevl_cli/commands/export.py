"""The options of `bellevl export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Debug
from ..words import say


def export(
    thread: Annotated[
        str | None, typer.Argument(help=say("help.export_id"), metavar=say("help.name_id"), show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=say("help.export_output"), metavar="PATH", show_default=False),
    ] = None,
    debug: Debug = False,
) -> None:
    from ..log.exporting import run

    run(thread, output)
