"""Quantizing a checkpoint on disk, block by block, into a folder that any GPTQ reader takes.

    copy    what stays float16 goes into its place in the weight files
    embed   the calibration set becomes the residual stream that enters block 0
    block   each block is read, calibrated, solved, packed and written
    finish  the files get their names, the index last

After every step the state is on the disk: the same command goes on from there and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bellevl.checkpoint import Checkpoint, check_tensors
from bellevl.config import ModelConfig
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.model import BelleVL
from bellevl.sizes import count_parameters
from bellevl.tokenizer import load_tokenizer

from .activations import Activations
from .block_stream import QuantizedLayer, RotaryTables, quantize_block, read_block
from .calibration import CalibrationSet, CalibrationSource, calibration_set
from .folder import write_small_files
from .job import FORMAT, Job, LayerReport, check_target, fingerprint
from .layout import STAGES, TensorPlan, block_prefix, is_packed, layer_shapes, packed_tensors, plan_tensors
from .prefix import embed_samples
from .progress import Clock, Progress
from .recipe import Recipe
from .shards import ShardWriter

#: Elements of a tensor that are copied at a time.
COPY_ELEMENTS = 1 << 25

#: What a byte of copying costs, in multiply-adds, for the estimate of the time left.
COPY_WORK = 20.0


@dataclass(frozen=True)
class _Task:
    """What one call has to do."""

    source: Path
    target: Path
    recipe: Recipe
    config: ModelConfig
    calibration: CalibrationSet
    tensors: list[TensorPlan]
    settings: dict[str, Any]


def quantize(
    source: str | Path, target: str | Path, recipe: Recipe | None = None, calibration: CalibrationSource = None
) -> Iterator[Progress]:
    """Quantizes the float checkpoint in `source` into the folder `target`, one step for every record taken.

    Goes on with an interrupted job in `target`. What can be refused is refused by the call itself, before the first
    step: raises CheckpointError for a bad source, QuantizeError for a bad target, recipe or calibration set.
    """
    task = _prepare(Path(source), Path(target), recipe or Recipe(), calibration)
    writer = ShardWriter(task.target / ".quantize", task.tensors, task.recipe.shard_bytes)
    streams = 2 * Activations.bytes_for(task.calibration.lengths, task.config.hidden_size)
    job = Job.open(task.target, task.settings, writer.size + streams)
    return _run(task, job, writer)


def _prepare(source: Path, target: Path, recipe: Recipe, calibration: CalibrationSource) -> _Task:
    check_target(source, target)
    with Checkpoint.open(source) as checkpoint:
        config = checkpoint.config
        if checkpoint.quantization is not None:
            raise QuantizeError("quantize.already_int4", folder=source)
        with torch.device("meta"):
            check_tensors(BelleVL(config), checkpoint)
        _check_widths(config, recipe)
        samples = calibration_set(calibration, load_tokenizer(source), config, source, recipe)
        settings = dataclasses.asdict(recipe)
        settings |= {"format": FORMAT, "source": fingerprint(checkpoint), "calibration": samples.fingerprint()}
        return _Task(source, target, recipe, config, samples, plan_tensors(checkpoint, recipe), settings)


def _check_widths(config: ModelConfig, recipe: Recipe) -> None:
    """Every layer's inputs must fall into whole groups and its outputs into whole words."""
    for inputs, outputs in layer_shapes(config).values():
        if recipe.group_size > 0 and inputs % recipe.group_size:
            reason = f"and a layer has {inputs} inputs"
            raise QuantizeError("quantize.option", name="group_size", value=recipe.group_size, reason=reason)
        if inputs % 8 or outputs % 8:
            reason = f"and a layer has shape {outputs} x {inputs}"
            raise QuantizeError("quantize.option", name="bits", value=recipe.bits, reason=reason)


def _run(task: _Task, job: Job, writer: ShardWriter) -> Iterator[Progress]:
    work = _Work.of(task)
    with job.locked(), writer:
        if job.copied and not _is_whole(task, job, writer):
            job.start_again()
        done = work.copy * job.copied + work.embed * job.embedded + work.block * job.blocks
        clock = Clock(work.total, done)
        if not job.copied:
            writer.lay_out()
            yield from _copy(task, job, writer, clock)
        if not job.embedded:
            yield from _embed(task, job, clock, work)
        rotary = RotaryTables(task.config)
        for index in range(job.blocks, task.config.num_hidden_layers):
            yield from _quantize_block(task, job, writer, clock, rotary, index)
        write_small_files(task.source, task.target, task.recipe)
        writer.finish(task.target)
    job.close()
    yield clock.progress("finish", task.config.num_hidden_layers)


def _is_whole(task: _Task, job: Job, writer: ShardWriter) -> bool:
    """Whether the files that the job's state speaks of are still there."""
    if job.blocks == task.config.num_hidden_layers:
        return all((writer.folder / p.name).is_file() or (task.target / p.name).is_file() for p in writer.plans)
    return writer.is_laid_out() and (not job.embedded or job.stream_path(job.blocks).is_file())


def _copy(task: _Task, job: Job, writer: ShardWriter, clock: Clock) -> Iterator[Progress]:
    """Everything that stays float16, some rows at a time."""
    for plan in task.tensors:
        if is_packed(plan.name):
            continue
        # Opened for each: the pages of a shard count as memory until it is closed.
        with Checkpoint.open(task.source) as checkpoint:
            tensor = checkpoint.read(plan.name)
            step = max(COPY_ELEMENTS * plan.shape[0] // max(tensor.numel(), 1), 1) if plan.shape else 1
            for first in range(0, plan.shape[0] if plan.shape else 1, step):
                rows = (tensor[first : first + step] if plan.shape else tensor).half()
                if not bool(rows.isfinite().all()):
                    raise CheckpointError("model.not_finite", name=plan.name)
                writer.write_rows(plan.name, rows, first)
            del tensor
        clock.advance(plan.nbytes * COPY_WORK)
        yield clock.progress("copy", task.config.num_hidden_layers)
    writer.sync()
    job.copied = True
    job.save()


def _embed(task: _Task, job: Job, clock: Clock, work: _Work) -> Iterator[Progress]:
    """The calibration set, up to block 0."""
    lengths = task.calibration.lengths
    with (
        Checkpoint.open(task.source) as checkpoint,
        Activations(job.scratch_path, lengths, task.config.hidden_size) as stream,
    ):
        for _ in embed_samples(checkpoint, task.calibration, stream):
            clock.advance(work.embed / len(lengths))
            yield clock.progress("embed", task.config.num_hidden_layers)
        stream.move(job.stream_path(0))
    job.embedded = True
    job.save()


def _quantize_block(
    task: _Task, job: Job, writer: ShardWriter, clock: Clock, rotary: RotaryTables, index: int
) -> Iterator[Progress]:
    lengths, width, blocks = task.calibration.lengths, task.config.hidden_size, task.config.num_hidden_layers
    work = _Work.of(task)
    block = read_block(task.source, task.config, index)
    reports = []
    with (
        Activations(job.stream_path(index), lengths, width) as stream,
        Activations(job.scratch_path, lengths, width) as scratch,
    ):
        last = index == blocks - 1
        for solved in quantize_block(block, index, stream, scratch, rotary, task.recipe, last=last):
            report = _write_layer(writer, index, solved, task.recipe)
            del solved  # before the next layer needs its memory
            reports.append(report)
            clock.advance(work.layers[report.layer])
            yield clock.progress("block", blocks, index, report)
        writer.sync()
        if not last:
            scratch.move(job.stream_path(index + 1))
    job.blocks = index + 1
    job.reports += reports
    job.save()
    job.stream_path(index).unlink(missing_ok=True)
    clock.advance(work.block - sum(work.layers.values()))
    yield clock.progress("block", blocks, index)


def _write_layer(writer: ShardWriter, index: int, solved: QuantizedLayer, recipe: Recipe) -> LayerReport:
    for part, tensor in packed_tensors(solved.weight, solved.bias, recipe).items():
        writer.write(f"{block_prefix(index)}{solved.layer}.{part}", tensor)
    weight = solved.weight
    return LayerReport(index, solved.layer, weight.method, weight.damp_percent, weight.error)


@dataclass(frozen=True)
class _Work:
    """Multiply-adds of a job's parts, for the estimate of the time left."""

    copy: float
    embed: float
    layers: dict[str, float]
    block: float
    total: float

    @classmethod
    def of(cls, task: _Task) -> _Work:
        tokens = float(sum(task.calibration.lengths))
        shapes = layer_shapes(task.config)
        layers = {}
        for stage in STAGES:
            for n, layer in enumerate(stage):
                inputs, outputs = shapes[layer]
                shared = tokens * inputs**2 + inputs**3 / 6 if n == 0 else 0.0
                # Through the layer once or twice, its error feedback, and searching its scales.
                layers[layer] = shared + 1.5 * tokens * inputs * outputs + outputs * inputs * (inputs / 2 + 400)
        block = sum(layers.values()) + tokens * sum(i * o for i, o in shapes.values()) / 2
        copied = sum(p.nbytes for p in task.tensors if not is_packed(p.name))
        pictures = sum(len(sample.pictures) for sample in task.calibration.samples)
        patches = (
            0 if task.config.visual is None else (task.config.visual.image_size // task.config.visual.patch_size) ** 2
        )
        embed = count_parameters(task.config).vision * patches * pictures + tokens
        copy = copied * COPY_WORK
        return cls(copy, embed, layers, block, copy + embed + task.config.num_hidden_layers * block)
