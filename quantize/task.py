"""What a quantization has to do: everything that can be known, and refused, before the work begins, and its amount.

Writes nothing and multiplies nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bellevl.checkpoint import Checkpoint, check_tensors
from bellevl.config import ModelConfig
from bellevl.errors import QuantizeError
from bellevl.model import BelleVL
from bellevl.sizes import block_linears, count_parameters
from bellevl.tokenizer import load_tokenizer

from .activations import CPU, Activations
from .calibration import CalibrationSet, CalibrationSource, calibration_set
from .job import FORMAT, STREAM_BYTES, check_target, fingerprint
from .layout import STAGES, TensorPlan, is_packed, plan_tensors
from .recipe import Recipe

#: What a byte of copying costs, in multiply-adds, for the estimate of the time left.
COPY_WORK = 20.0


@dataclass(frozen=True)
class Task:
    """What one call has to do."""

    source: Path
    target: Path
    recipe: Recipe
    config: ModelConfig
    calibration: CalibrationSet
    tensors: list[TensorPlan]
    settings: dict[str, Any]
    device: torch.device = CPU


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
        if recipe.lm_head_bits < 16 and config.tie_word_embeddings:
            reason = "and the head is the embedding (tie_word_embeddings)"
            raise QuantizeError("quantize.option", name="lm_head_bits", value=recipe.lm_head_bits, reason=reason)
        tokenizer = load_tokenizer(source)
        samples = CalibrationSet(())
        if recipe.calibrates:
            samples = calibration_set(calibration, tokenizer, config, source, recipe)
        settings = dataclasses.asdict(recipe) | {"eight_bits": list(recipe.eight_bits)}  # as JSON gives it back
        settings |= {"format": FORMAT, "source": fingerprint(checkpoint), "calibration": samples.fingerprint()}
        return Task(source, target, recipe, config, samples, plan_tensors(checkpoint, recipe), settings)


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


@dataclass(frozen=True)
class Work:
    """Multiply-adds of a job's parts, for the time left and for an estimate before it starts."""

    copy: float
    embed: float
    layers: dict[str, float]
    block: float
    head: float
    total: float

    @classmethod
    def of(cls, task: Task) -> Work:
        tokens = float(sum(task.calibration.lengths))
        shapes = block_linears(task.config)
        layers = {}
        for stage in STAGES:
            for n, layer in enumerate(stage):
                inputs, outputs = shapes[layer]
                shared = tokens * inputs**2 + inputs**3 / 6 if n == 0 else 0.0
                # Through the layer once or twice, its error feedback, and searching its scales.
                layers[layer] = shared + 1.5 * tokens * inputs * outputs + outputs * inputs * (inputs / 2 + 400)
                if task.recipe.float_targets:
                    # The float pass, what outputs lack, and the weights that make good for it.
                    layers[layer] += 2.5 * tokens * inputs * outputs + outputs * inputs**2
        block = sum(layers.values()) + tokens * sum(i * o for i, o in shapes.values()) / 2
        copied = sum(p.nbytes for p in task.tensors if not is_packed(p.name))
        pictures = sum(len(sample.pictures) for sample in task.calibration.samples)
        patches = (
            0 if task.config.visual is None else (task.config.visual.image_size // task.config.visual.patch_size) ** 2
        )
        embed = count_parameters(task.config).vision * patches * pictures + tokens
        copy = copied * COPY_WORK
        head = _head_work(task, tokens)
        return cls(copy, embed, layers, block, head, copy + embed + task.config.num_hidden_layers * block + head)


def _head_work(task: Task, tokens: float) -> float:
    if task.recipe.lm_head_bits == 16:
        return 0.0
    inputs, outputs = task.config.hidden_size, task.config.vocab_size
    return tokens * inputs**2 + inputs**3 / 6 + outputs * inputs * (inputs / 2 + 400)
