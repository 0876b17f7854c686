"""The commands of `bellevl evaluate` and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Debug, Json
from ..parser import Command, new_group
from ..words import say

group = new_group("evaluate", say("help.evaluate"))


# One command alone would make the group that command.
@group.callback()
def evaluate() -> None:
    pass


@group.command("fidelity", cls=Command, help=say("help.fidelity"))
def fidelity(
    reference: Annotated[
        Path, typer.Argument(help=say("help.float"), metavar=say("help.name_float"), show_default=False)
    ],
    other: Annotated[Path, typer.Argument(help=say("help.int4"), metavar=say("help.name_int4"), show_default=False)],
    data: Annotated[
        Path | None, typer.Option("--data", help=say("help.fidelity_data"), metavar="PATH", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(help=say("help.fidelity_samples"), metavar="N", show_default=False)] = 32,
    seqlen: Annotated[int, typer.Option(help=say("help.fidelity_seqlen"), metavar="N", show_default=False)] = 1024,
    receipt: Annotated[bool, typer.Option("--receipt", help=say("help.fidelity_receipt"), show_default=False)] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    from ..models.evaluating import FidelityOptions, run_fidelity

    run_fidelity(FidelityOptions(reference, other, data, samples, seqlen, receipt, json))
