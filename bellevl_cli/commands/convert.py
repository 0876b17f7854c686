"""The commands of `bellevl convert` and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Debug
from ..parser import Command, new_group
from ..words import say

group = new_group("convert", say("help.convert"))


# One command alone would make the group that command.
@group.callback()
def convert() -> None:
    pass


@group.command("gguf", cls=Command, help=say("help.gguf"))
def gguf(
    source: Annotated[
        Path, typer.Argument(help=say("help.gguf_source"), metavar=say("help.name_int4"), show_default=False)
    ],
    path: Annotated[
        Path, typer.Argument(help=say("help.gguf_file"), metavar=say("help.name_gguf"), show_default=False)
    ],
    debug: Debug = False,
) -> None:
    from ..models.converting import run_gguf

    run_gguf(source, path)
