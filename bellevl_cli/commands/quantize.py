"""The options of `bellevl quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Budget, Debug, SampleSeed
from ..words import say


def quantize(
    source: Annotated[
        Path, typer.Argument(help=say("help.source"), metavar=say("help.name_source"), show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(help=say("help.target"), metavar=say("help.name_target"), show_default=False)
    ],
    calibration: Annotated[
        Path | None, typer.Option(help=say("help.calibration"), metavar="PATH", show_default=False)
    ] = None,
    bits: Annotated[int | None, typer.Option(help=say("help.bits"), metavar="N", show_default=False)] = None,
    group_size: Annotated[
        int | None, typer.Option(help=say("help.group_size"), metavar="N", show_default=False)
    ] = None,
    asym: Annotated[bool, typer.Option("--asym", help=say("help.asym"), show_default=False)] = False,
    act_order: Annotated[
        bool, typer.Option("--act-order/--no-act-order", help=say("help.act_order"), show_default=False)
    ] = True,
    damp: Annotated[float | None, typer.Option(help=say("help.damp"), metavar="X", show_default=False)] = None,
    samples: Annotated[int | None, typer.Option(help=say("help.samples"), metavar="N", show_default=False)] = None,
    seqlen: Annotated[int | None, typer.Option(help=say("help.seqlen"), metavar="N", show_default=False)] = None,
    seed: SampleSeed = None,
    method: Annotated[str | None, typer.Option(help=say("help.method"), metavar="NAME", show_default=False)] = None,
    picture_weight: Annotated[
        float | None, typer.Option(help=say("help.picture_weight"), metavar="X", show_default=False)
    ] = None,
    lm_head_bits: Annotated[
        int | None, typer.Option("--lm-head-bits", metavar="N", help=say("help.lm_head_bits"), show_default=False)
    ] = None,
    float_targets: Annotated[
        bool, typer.Option("--float-targets", help=say("help.float_targets"), show_default=False)
    ] = False,
    rotate: Annotated[bool, typer.Option("--rotate", help=say("help.rotate"), show_default=False)] = False,
    awq_scaling: Annotated[
        bool, typer.Option("--awq-scaling", help=say("help.awq_scaling"), show_default=False)
    ] = False,
    budget: Budget = None,
    device: Annotated[
        str | None, typer.Option("--device", help=say("help.quantize_device"), metavar="NAME", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=say("help.dry_run"), show_default=False)] = False,
    debug: Debug = False,
) -> None:
    from ..models.quantizing import QuantizeOptions, run

    run(
        QuantizeOptions(
            source, target, calibration, bits, group_size, asym, act_order, damp, samples, seqlen, seed, method,
            picture_weight, float_targets, lm_head_bits, rotate, awq_scaling, device, dry_run,
            budget=budget,
        )
    )  # fmt: skip
