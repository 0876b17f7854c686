"""What a quantization has to do: everything that can be known, and refused, before the work begins, and its amount.

Writes nothing and multiplies nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bellevl.checkpoint import Checkpoint, check_tensors
from bellevl.config import ModelConfig
from bellevl.errors import QuantizeError
from bellevl.model import BelleVL
from bellevl.sizes import block_linears, count_parameters
from bellevl.tokenizer import load_tokenizer

from .blocks.linears import multiplies_in
from .calibration import CalibrationSet, CalibrationSource, calibration_set
from .job import FORMAT, STREAM_BYTES, check_target, fingerprint
from .recipe import Recipe
from .solver.hessian import SAMPLED_OUTPUTS
from .solver.scaling import ALPHAS
from .spending.bits_of_units import UnitReport, check_possible, plan_bytes, report_units, spend
from .spending.sensitivity import Sensitivity, measured_samples
from .storage.activations import CPU, Activations
from .storage.layout import STAGES, TensorPlan, is_packed, plan_tensors
from .transform import Rotation, check_rotation
from .vision import patch_bytes

#: What a byte of copying costs, in multiply-adds, for the estimate of the time left.
COPY_WORK = 400.0

#: What a multiply-add of a job's parts costs beside one of a large float32 product, on a Zen 4 (from the parts of
#: benchmarks/results/quantize_full.md): a forward pass in bfloat16 where the processor has that; the Hessian, of which
#: half is left out; a column after the other.
FORWARD_BFLOAT16 = 0.4
HESSIAN = 0.7
SOLVING = 2.1

#: What rounding one weight costs without calibration, in multiply-adds: 400 to 850 on a Zen 4, NF4 the most.
ROUNDING_WORK = 850.0


@dataclass(frozen=True)
class Task:
    """What one call has to do. `measured`: the samples that tell what a budget is best spent on (none without one);
    `units`: what became of it, once it is spent."""

    source: Path
    target: Path
    recipe: Recipe
    config: ModelConfig
    calibration: CalibrationSet
    tensors: list[TensorPlan]
    settings: dict[str, Any]
    device: torch.device = CPU
    measured: CalibrationSet = field(default_factory=lambda: CalibrationSet(()))
    units: tuple[UnitReport, ...] = ()

    def measurement(self, folder: Path) -> Sensitivity | None:
        """What a budget is spent by, with its files in `folder`; None without a budget."""
        if self.recipe.budget is None:
            return None
        return Sensitivity(self.source, self.config, self.recipe, self.measured, folder, self.device, self.rotation)

    @property
    def result_bytes(self) -> int:
        """What the weight files take; with a budget that is not spent yet: at most."""
        planned = plan_bytes(self.tensors, self.recipe)
        return planned if self.units else max(planned, self.recipe.budget or 0)

    @property
    def rotation(self) -> Rotation | None:
        """What the weights are turned by before anything else."""
        return Rotation(self.config, self.recipe.seed) if self.recipe.rotate else None


def spend_budget(task: Task, measured: list[tuple[list[str], float]]) -> Task:
    """The task with its budget spent by what was `measured`: of each unit its layers and their divergence."""
    found = {tuple(layers): kl for layers, kl in measured}
    with Checkpoint.open(task.source) as checkpoint:
        recipe = spend(checkpoint, task.recipe, found)
        tensors = plan_tensors(checkpoint, recipe)
    return dataclasses.replace(task, recipe=recipe, tensors=tensors, units=tuple(report_units(found, recipe)))


def prepare(source: Path, target: Path, recipe: Recipe, calibration: CalibrationSource) -> Task:
    """Everything that can be known, and refused, before the work begins."""
    check_target(source, target)
    with Checkpoint.open(source) as checkpoint:
        config = checkpoint.config
        if checkpoint.quantization is not None:
            raise QuantizeError("quantize.already_int4", folder=source)
        with torch.device("meta"):
            check_tensors(BelleVL(config), checkpoint)
        _check_widths(config, recipe)
        if recipe.rotate:
            check_rotation(config)
        if recipe.lm_head_bits < 16 and config.tie_word_embeddings:
            reason = "and the head is the embedding (tie_word_embeddings)"
            raise QuantizeError("quantize.option", name="lm_head_bits", value=recipe.lm_head_bits, reason=reason)
        check_possible(checkpoint, recipe)
        tokenizer = load_tokenizer(source)
        samples = measured = CalibrationSet(())
        if recipe.calibrates or recipe.budget is not None:
            chosen = calibration_set(calibration, tokenizer, config, source, recipe)
            samples = chosen if recipe.calibrates else samples
            measured = measured if recipe.budget is None else measured_samples(chosen)
        settings = dataclasses.asdict(recipe) | {"eight_bits": list(recipe.eight_bits)}  # as JSON gives it back
        settings |= {"format": FORMAT, "source": fingerprint(checkpoint), "calibration": samples.fingerprint()}
        settings["measured"] = measured.fingerprint()
        plan = plan_tensors(checkpoint, recipe)
        return Task(source, target, recipe, config, samples, plan, settings, measured=measured)


def _check_widths(config: ModelConfig, recipe: Recipe) -> None:
    """Every layer's inputs must fall into whole groups and its outputs into whole words."""
    shapes = [*block_linears(config).values()]
    if recipe.lm_head_bits < 16:
        shapes.append((config.hidden_size, config.vocab_size))
    for inputs, outputs in shapes:
        if recipe.group_size > 0 and inputs % recipe.group_size:
            reason = f"and a layer has {inputs} inputs"
            raise QuantizeError("quantize.option", name="group_size", value=recipe.group_size, reason=reason)
        if inputs % 8 or outputs % 8:
            reason = f"and a layer has shape {outputs} x {inputs}"
            raise QuantizeError("quantize.option", name="bits", value=recipe.bits, reason=reason)


def stream_bytes(config: ModelConfig, lengths: list[int], floats: bool) -> int:
    """Disk that a job takes beside the result while it runs; `floats`: the float model's stream is kept too."""
    streams = 2 * (1 + floats) * Activations.bytes_for(lengths, config.hidden_size)
    gated = Activations.bytes_for(lengths, config.mlp_width)
    return streams + gated if streams + gated <= STREAM_BYTES else streams


def disk_bytes(task: Task) -> int:
    """Disk that a job takes while it runs."""
    streams = stream_bytes(task.config, task.calibration.lengths, task.recipe.float_targets)
    looking = Activations.bytes_for(task.calibration.lengths, task.config.hidden_size)
    looking += patch_bytes(task.config, task.calibration)
    measurement = task.measurement(task.target)
    return max(task.result_bytes + max(streams, looking), 0 if measurement is None else measurement.stream_bytes())


@dataclass(frozen=True)
class Work:
    """Multiply-adds of a job's parts, for the time left and for an estimate before it starts."""

    copy: float
    embed: float
    layers: dict[str, float]
    block: float
    head: float
    measure: float
    total: float

    @classmethod
    def of(cls, task: Task) -> Work:
        tokens = float(sum(task.calibration.lengths))
        shapes = block_linears(task.config)
        forward, layers = _forward_work(task), {}
        for stage in STAGES:
            for n, layer in enumerate(stage):
                inputs, outputs = shapes[layer]
                # Through the layer once or twice, its error feedback, and searching its scales.
                if not task.recipe.calibrates:
                    layers[layer] = ROUNDING_WORK * inputs * outputs
                    continue
                layers[layer] = 1.5 * forward * tokens * inputs * outputs
                layers[layer] += SOLVING * outputs * inputs * (inputs / 2 + 400)
                if n == 0:
                    layers[layer] += HESSIAN * tokens * inputs**2 + SOLVING * inputs**3 / 6
                if task.recipe.awq_scaling and n == 0:
                    sampled = SAMPLED_OUTPUTS * inputs * (inputs / 2 + 400)
                    layers[layer] += SOLVING * len(ALPHAS) * (inputs**3 / 6 + sampled)
                if task.recipe.float_targets:
                    # The float pass, what outputs lack, and the weights that make good for it.
                    layers[layer] += (forward + 1.5) * tokens * inputs * outputs + outputs * inputs**2
        block = sum(layers.values()) + forward * tokens * sum(i * o for i, o in shapes.values()) / 2
        copied = sum(p.nbytes for p in task.tensors if not is_packed(p.name))
        pictures = sum(len(sample.pictures) for sample in task.calibration.samples)
        patches = 0 if task.config.visual is None else task.config.visual.patches
        embed = count_parameters(task.config).vision * patches * pictures + tokens
        copy = copied * COPY_WORK
        if task.rotation is not None:
            turning = task.rotation.residual.multiplications
            block += turning * sum(i * o for i, o in shapes.values())
            copy += turning * 2 * task.config.vocab_size * task.config.hidden_size
        head = _head_work(task, tokens)
        measurement = task.measurement(task.target)
        measure = 0.0 if measurement is None else measurement.total_work()
        total = copy + embed + task.config.num_hidden_layers * block + head + measure
        return cls(copy, embed, layers, block, head, measure, total)


def _forward_work(task: Task) -> float:
    """What a multiply-add of a forward pass costs."""
    stored = torch.bfloat16 if task.config.torch_dtype == "bfloat16" else torch.float32
    multiplied = multiplies_in(torch.empty(0, dtype=stored, device=task.device))
    return FORWARD_BFLOAT16 if multiplied == torch.bfloat16 else 1.0


def _head_work(task: Task, tokens: float) -> float:
    if task.recipe.lm_head_bits == 16:
        return 0.0
    inputs, outputs = task.config.hidden_size, task.config.vocab_size
    solve = inputs**3 / 6 + outputs * inputs * (inputs / 2 + 400)
    return HESSIAN * tokens * inputs**2 + SOLVING * solve
