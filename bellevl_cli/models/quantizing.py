"""`bellevl quantize`: draws what `quantize.pipeline` tells. Ctrl-C leaves what the same command goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bellevl.config import read_config
from bellevl.errors import QuantizeError
from bellevl.sizes import weight_bytes

from .. import guard
from ..exits import INTERRUPTED, LeaveError
from ..running.preflight import readable_bytes
from ..screen.clean import clean_line, typed_text
from ..screen.render import Renderer
from ..settings import choose_device
from ..words import say

if TYPE_CHECKING:
    from quantize.progress import Progress
    from quantize.recipe import Recipe


#: Stages of a job -> what they are called.
STAGES = {
    "measure": "quantize.measure",
    "copy": "quantize.copy",
    "embed": "quantize.embed",
    "head": "quantize.head",
    "finish": "quantize.finish",
}


@dataclass(frozen=True)
class QuantizeOptions:
    """What was asked on the command line; None is the recipe's default."""

    source: Path
    target: Path
    calibration: Path | None = None
    bits: int | None = None
    group_size: int | None = None
    asym: bool = False
    act_order: bool = True
    damp: float | None = None
    samples: int | None = None
    seqlen: int | None = None
    seed: int | None = None
    method: str | None = None
    picture_weight: float | None = None
    float_targets: bool = False
    lm_head_bits: int | None = None
    rotate: bool = False
    awq_scaling: bool = False
    device: str | None = None
    dry_run: bool = False
    budget: int | None = None


def run(options: QuantizeOptions, renderer: Renderer | None = None) -> None:
    """Quantizes. Raises the errors of bellevl, LeaveError(130) after Ctrl-C."""
    guard.install()
    renderer = renderer or Renderer()
    config, _ = read_config(options.source)
    if options.target.is_file():
        raise QuantizeError("quantize.file", folder=options.target)
    recipe = recipe_of(options)
    size = readable_bytes(recipe.budget or weight_bytes(config, recipe.quantization()))
    renderer.say(
        "quantize.start", source=_name(options.source), target=_name(options.target),
        blocks=config.num_hidden_layers, size=size,
    )  # fmt: skip
    renderer.stage(say("quantize.prepare"))
    if options.dry_run:
        _tell_estimate(options, recipe, renderer)
        return
    from quantize.pipeline import quantize

    drawer = ProgressDrawer(renderer)
    try:
        device = choose_device(options.device) or "cpu"
        for progress in quantize(options.source, options.target, recipe, options.calibration, device):
            drawer.draw(progress)
    except KeyboardInterrupt as error:
        renderer.say("quantize.resume")
        raise LeaveError(INTERRUPTED) from error
    written = readable_bytes(sum(p.stat().st_size for p in options.target.iterdir() if p.is_file()))
    renderer.say("quantize.done", target=_name(options.target), size=written, time=readable_time(drawer.elapsed))


def _tell_estimate(options: QuantizeOptions, recipe: Recipe, renderer: Renderer) -> None:
    """What it would take. Nothing is written, so the lines are the result and go to stdout."""
    from quantize.record.estimate import estimate

    found = estimate(options.source, options.target, recipe, options.calibration)
    time_left = readable_time(found.seconds)
    sizes = {name: readable_bytes(getattr(found, f"{name}_bytes")) for name in ("memory", "disk", "result", "free")}
    facts = {"samples": found.samples, "tokens": found.tokens, "pictures": found.pictures, "time": time_left, **sizes}
    lines = ["quantize.dry_calibration", "quantize.dry_time", "quantize.dry_memory", "quantize.dry_disk"]
    if recipe.budget is not None:
        lines.insert(2, "quantize.dry_budget")
        facts["measuring"] = readable_time(found.measure_seconds)
    for message in lines:
        renderer.line(say(message, **facts))
    if found.disk_bytes > found.free_bytes:
        renderer.line(say("quantize.dry_full", need=readable_bytes(found.disk_bytes - found.free_bytes)))


def recipe_of(options: QuantizeOptions) -> Recipe:
    """Raises QuantizeError for a value out of range."""
    from quantize.recipe import Recipe

    given = {
        "bits": options.bits,
        "group_size": options.group_size,
        "damp_percent": options.damp,
        "nsamples": options.samples,
        "seqlen": options.seqlen,
        "seed": options.seed,
        "picture_weight": options.picture_weight,
        "method": options.method,
        "lm_head_bits": options.lm_head_bits,
        "budget": options.budget,
    }
    known = {name: value for name, value in given.items() if value is not None}
    if known.get("bits") == 8 and not options.asym:
        known.setdefault("group_size", -1)  # costs nothing in 8 bits, and torch has a product for it
    if known.get("method") == "rtn":
        known["search_scales"] = False  # what is meant by round-to-nearest: the range of the weights, no search
    switches = {
        "sym": not options.asym,
        "desc_act": options.act_order,
        "float_targets": options.float_targets,
        "rotate": options.rotate,
        "awq_scaling": options.awq_scaling,
    }
    return Recipe(**switches, **known)  # type: ignore[arg-type]


class ProgressDrawer:
    """A line that is rewritten for every step, and one that stays for every finished block."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.elapsed = 0.0
        self._worst = 0.0

    def draw(self, progress: Progress) -> None:
        self.elapsed = progress.elapsed
        left = "…" if progress.remaining is None else readable_time(progress.remaining)
        percent = f"{100 * progress.fraction:.0f}%"
        if progress.units:
            eight = sum(unit.bits == 8 for unit in progress.units)
            self.renderer.say("quantize.spent", eight=eight, units=len(progress.units))
        elif progress.stage != "block" or progress.block is None:
            self.renderer.stage(say("quantize.stage", stage=say(STAGES[progress.stage]), done=percent, left=left))
        elif progress.report is not None:
            self._worst = max(self._worst, progress.report.error)
            self.renderer.stage(
                say(
                    "quantize.layer", block=progress.block + 1, blocks=progress.blocks,
                    layer=progress.report.layer, done=percent, left=left,
                )
            )  # fmt: skip
        else:
            self.renderer.say(
                "quantize.block", block=progress.block + 1, blocks=progress.blocks,
                loss=f"{self._worst:.2g}", done=percent, left=left,
            )  # fmt: skip
            self._worst = 0.0


def readable_time(seconds: float) -> str:
    """75 -> "1:15", 3675 -> "1:01:15"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _name(folder: Path) -> str:
    return clean_line(typed_text(str(folder)))
