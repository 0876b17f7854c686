"""The options of `bellevl completion`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import Debug
from ..words import say


def completion(
    shell: Annotated[str | None, typer.Argument(help=say("help.shell"), metavar="SHELL", show_default=False)] = None,
    install: Annotated[bool, typer.Option("--install", help=say("help.install"), show_default=False)] = False,
    debug: Debug = False,
) -> None:
    from ..completing.installing import run

    run(shell, install)
