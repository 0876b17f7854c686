"""Quantizing a checkpoint on disk, block by block, into a folder that any GPTQ reader takes.

    measure where there is a byte budget: what rounding each unit costs, and with that which get 8 bits
    copy    what stays float16 goes into its place in the weight files
    embed   the calibration set becomes the residual stream that enters block 0
    block   each block is read, calibrated, solved, packed and written
    head    the same for the head, where it is quantized
    finish  the files get their names, the index last

After every step the state is on the disk: the same command goes on from there and ends with the same bytes.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bellevl.checkpoint import Checkpoint, check_device
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.quantization import HEAD
from bellevl.text import Block

from .blocks.passes import RotaryTables, Streams
from .blocks.reader import BlockReader
from .blocks.stages import QuantizedLayer, fold, quantize_block, round_block
from .calibration import CalibrationSource
from .head import quantize_head
from .job import BlockReport, Job, LayerReport
from .meter import MemoryWatch, Stopwatch, device_peak
from .prefix import embed_samples
from .progress import Clock, Progress
from .recipe import Recipe
from .record.receipt import hash_files, make_receipt, write_receipt
from .spending.sensitivity import Sensitivity
from .storage.activations import Activations
from .storage.folder import write_small_files
from .storage.layout import NORMS, STAGES, TensorPlan, block_prefix, is_packed, packed_tensors
from .storage.shards import ShardWriter
from .task import COPY_WORK, Task, Work, disk_bytes, prepare, spend_budget, stream_bytes

#: Elements of a tensor that are copied at a time.
COPY_ELEMENTS = 1 << 25


def quantize(
    source: str | Path,
    target: str | Path,
    recipe: Recipe | None = None,
    calibration: CalibrationSource = None,
    device: str | torch.device = "cpu",
) -> Iterator[Progress]:
    """Quantizes the float checkpoint in `source` into the folder `target`, one step for every record taken.

    `device` holds one block, one Hessian and some activations at a time.
    Goes on with an interrupted job in `target`. What can be refused is refused by the call itself, before the first
    step: raises CheckpointError for a bad source, QuantizeError for a bad target, recipe, calibration set or device,
    DeviceError for one that is not there.
    """
    place = check_device(device)
    if place.type not in ("cpu", "cuda"):
        raise QuantizeError("quantize.option", name="device", value=device, reason="not cpu or cuda")
    task = replace(prepare(Path(source), Path(target), recipe or Recipe(), calibration), device=place)
    job = Job.open(task.target, task.settings, disk_bytes(task))
    return _run(task, job)


def _run(task: Task, job: Job) -> Iterator[Progress]:
    with job.locked(), MemoryWatch(job.costs.curve) as memory:
        job.costs.runs += 1
        run = _Running(task, job, _writer(task), Clock(Work.of(task).total, 0.0), Work.of(task), memory)
        measurement = task.measurement(job.work)
        if measurement is not None:
            yield from _measure(run, measurement)
            task = spend_budget(task, job.measured)
            run = replace(run, task=task, writer=_writer(task))
            yield run.clock.progress("measure", task.config.num_hidden_layers, units=task.units)
        with run.writer:
            yield from _fill(run)
    job.close()
    yield run.clock.progress("finish", task.config.num_hidden_layers)


def _writer(task: Task) -> ShardWriter:
    return ShardWriter(task.target / ".quantize", task.tensors, task.recipe.shard_bytes)


def _fill(run: _Running) -> Iterator[Progress]:
    """Everything from the plan of the result to its files' names."""
    job, work = run.job, run.work
    if job.copied and not _is_whole(run.task, job, run.writer):
        job.start_again()
    run.clock.skip(work.copy * job.copied + work.embed * job.embedded + work.block * job.blocks + work.head * job.head)
    if not job.copied:
        run.writer.lay_out()
        yield from _copy(run)
    if not job.embedded:
        yield from _embed(run)
    yield from _quantize_blocks(run)
    if run.task.recipe.lm_head_bits < 16 and not job.head:
        yield from _quantize_head(run)
    yield from _finish(run)


@dataclass(frozen=True)
class _Running:
    """A task on its way."""

    task: Task
    job: Job
    writer: ShardWriter
    clock: Clock
    work: Work
    memory: MemoryWatch

    def save(self) -> None:
        """Makes what was done last."""
        costs = self.job.costs
        costs.curve = self.memory.points()
        costs.device_peak_bytes = max(costs.device_peak_bytes, device_peak(self.task.device))
        self.job.save()

    def spent(self, stage: str, began: float) -> None:
        """Books the seconds since `began` (time.monotonic)."""
        seconds = self.job.costs.seconds
        seconds[stage] = round(seconds.get(stage, 0.0) + time.monotonic() - began, 3)


def _is_whole(task: Task, job: Job, writer: ShardWriter) -> bool:
    """Whether the files that the job's state speaks of are still there."""
    last = job.blocks == task.config.num_hidden_layers and (job.head or task.recipe.lm_head_bits == 16)
    if last:
        return all((writer.folder / p.name).is_file() or (task.target / p.name).is_file() for p in writer.plans)
    needed = [job.stream_path(job.blocks)] if job.embedded and task.recipe.calibrates else []
    if needed and task.recipe.float_targets:
        needed.append(job.float_path(job.blocks))
    return writer.is_laid_out() and all(path.is_file() for path in needed)


def _measure(run: _Running, measurement: Sensitivity) -> Iterator[Progress]:
    """What rounding each unit costs, unless that is known; as long as it is not, its files are its own state."""
    run.clock.skip(measurement.total_work() if run.job.measured else measurement.done_work())
    if run.job.measured:
        return
    began = time.monotonic()
    try:
        for work in measurement.run():
            run.clock.advance(work)
            yield run.clock.progress("measure", run.task.config.num_hidden_layers)
        run.job.measured = [(list(layers), kl) for layers, kl in (measurement.result() or {}).items()]
    finally:
        run.spent("measure", began)
        run.save()


def _copy(run: _Running) -> Iterator[Progress]:
    """Everything that stays float16, some rows at a time."""
    task, began = run.task, time.monotonic()
    change = _change_of(task)
    for plan in task.tensors:
        if is_packed(plan.name):
            continue
        with Checkpoint.open(task.source) as checkpoint:
            for part in _parts(plan):
                rows = change(plan.name, checkpoint.read_copy(plan.name, rows=part)).half()
                if not bool(rows.isfinite().all()):
                    raise CheckpointError("model.not_finite", name=plan.name)
                run.writer.write_rows(plan.name, rows, 0 if part is None else part.start)
        run.clock.advance(plan.nbytes * COPY_WORK)
        yield run.clock.progress("copy", task.config.num_hidden_layers)
    run.writer.sync()
    run.job.copied = True
    run.spent("copy", began)
    run.save()


def _parts(plan: TensorPlan) -> list[range | None]:
    """Rows of a tensor that are copied together; None: a single number."""
    if not plan.shape:
        return [None]
    step = max(COPY_ELEMENTS // max(math.prod(plan.shape[1:]), 1), 1)
    return [range(first, min(first + step, plan.shape[0])) for first in range(0, plan.shape[0], step)]


def _change_of(task: Task) -> Callable[[str, Tensor], Tensor]:
    """What happens to some rows of a tensor, known by its name, before they are copied."""
    if task.rotation is None:
        return lambda name, rows: rows
    with Checkpoint.open(task.source) as checkpoint:
        last_norm = checkpoint.read_copy("transformer.ln_f.weight")
    return functools.partial(task.rotation.rows, last_norm=last_norm)


def _embed(run: _Running) -> Iterator[Progress]:
    """The calibration set, up to block 0."""
    task, job, began = run.task, run.job, time.monotonic()
    if task.recipe.calibrates:
        lengths = task.calibration.lengths
        with (
            Checkpoint.open(task.source) as checkpoint,
            Activations(job.scratch_path, lengths, task.config.hidden_size, task.device) as stream,
        ):
            done = 0.0
            for share in embed_samples(checkpoint, task.calibration, stream, task.rotation):
                run.clock.advance(run.work.embed * (share - done))
                done = share
                yield run.clock.progress("embed", task.config.num_hidden_layers)
            stream.move(job.stream_path(0))
    job.embedded = True
    run.spent("embed", began)
    run.save()


def _quantize_blocks(run: _Running) -> Iterator[Progress]:
    """All blocks that are not done; the next one is read while one is worked on."""
    task = run.task
    rotary = RotaryTables(task.config, task.device)
    # On the CPU the next block waits outside until the largest Hessian is gone.
    at_once = task.device.type != "cpu" or not task.recipe.calibrates
    first = run.job.blocks
    with BlockReader(task.source, task.config, first, task.device, task.rotation, at_once=at_once) as reader:
        for index in range(run.job.blocks, task.config.num_hidden_layers):
            yield from _quantize_block(run, reader, rotary, index)


def _quantize_block(run: _Running, reader: BlockReader, rotary: RotaryTables, index: int) -> Iterator[Progress]:
    job, blocks, work = run.job, run.task.config.num_hidden_layers, run.work
    began, watch, reports = time.monotonic(), Stopwatch(), []
    run.memory.take_peak()
    with watch.part("wait"):
        block, read = reader.take()
    for solved in _solve_block(run, block, rotary, index, watch):
        report = _write_layer(run, index, block_prefix(index), solved, watch)
        del solved  # before the next layer needs its memory
        if report.layer == STAGES[-1][-1]:
            reader.make_room()
        reports.append(report)
        run.clock.advance(work.layers[report.layer])
        yield run.clock.progress("block", blocks, index, report)
    cost = BlockReport(index, round(time.monotonic() - began, 3), round(read, 3), watch.take(), run.memory.take_peak())
    job.blocks = index + 1
    job.reports += reports
    job.costs.blocks.append(cost)
    run.save()
    for path in (job.stream_path(index), job.float_path(index)):
        path.unlink(missing_ok=True)
    run.clock.advance(work.block - sum(work.layers.values()))
    yield run.clock.progress("block", blocks, index, cost=cost)


def _solve_block(
    run: _Running, block: Block, rotary: RotaryTables, index: int, watch: Stopwatch
) -> Iterator[QuantizedLayer]:
    """The layers of a block; afterwards what they became is on the disk, and the stream that leaves the block."""
    task, job = run.task, run.job
    if not task.recipe.calibrates:
        yield from round_block(block, index, task.recipe, watch)
        with watch.part("write"):
            run.writer.sync()
        return
    last = index == task.config.num_hidden_layers - 1 and task.recipe.lm_head_bits == 16
    with ExitStack() as stack:
        streams = _open_streams(task, job, index, stack)
        weights = task.calibration.token_weights(task.config, task.recipe.picture_weight)
        solved = quantize_block(block, index, streams, rotary, task.recipe, watch, last=last, weights=weights)
        yield from fold(solved, block)
        with watch.part("write"):
            run.writer.sync()
            if not last:
                streams.scratch.move(job.stream_path(index + 1))
                if streams.floats is not None:
                    streams.floats.scratch.move(job.float_path(index + 1))


def _open_streams(task: Task, job: Job, index: int, stack: ExitStack) -> Streams:
    lengths, width = task.calibration.lengths, task.config.hidden_size
    entering = stack.enter_context(Activations(job.stream_path(index), lengths, width, task.device))
    scratch = stack.enter_context(Activations(job.scratch_path, lengths, width, task.device))
    gated = floats = None
    follows = task.recipe.float_targets
    if stream_bytes(task.config, lengths, follows) > 2 * (1 + follows) * scratch.size:
        gated = stack.enter_context(Activations(job.gated_path, lengths, task.config.mlp_width, task.device))
    if follows:
        paths = (job.float_path(index), job.float_scratch_path)
        files = [stack.enter_context(Activations(path, lengths, width, task.device)) for path in paths]
        floats = Streams(files[0], files[1])
    return Streams(entering, scratch, gated, floats)


def _quantize_head(run: _Running) -> Iterator[Progress]:
    """The head, calibrated on what leaves the quantized blocks."""
    task, job, index = run.task, run.job, run.task.config.num_hidden_layers
    began, watch = time.monotonic(), Stopwatch()
    run.memory.take_peak()
    yield run.clock.progress("head", index)
    with ExitStack() as stack:
        streams = _open_streams(task, job, index, stack) if task.recipe.calibrates else None
        weights = task.calibration.token_weights(task.config, task.recipe.picture_weight)
        recipe = task.recipe.for_layer(HEAD)
        solved = quantize_head(task.source, recipe, streams, weights, task.device, watch, task.rotation)
    job.reports.append(_write_layer(run, index, "", solved, watch))
    del solved
    run.writer.sync()
    cost = BlockReport(index, round(time.monotonic() - began, 3), 0.0, watch.take(), run.memory.take_peak())
    job.costs.blocks.append(cost)
    job.head = True
    run.save()
    run.clock.advance(run.work.head)
    yield run.clock.progress("head", index)


def _write_layer(run: _Running, index: int, prefix: str, solved: QuantizedLayer, watch: Stopwatch) -> LayerReport:
    name = prefix + solved.layer
    with watch.part("pack"):
        tensors = packed_tensors(solved.weight, solved.bias, run.task.recipe.for_layer(name))
    with watch.part("write"):
        for part, tensor in tensors.items():
            run.writer.write(f"{name}.{part}", tensor)
        if solved.norm is not None:
            run.writer.write(f"{prefix}{NORMS[solved.layer]}.weight", solved.norm.half().cpu())
    weight = solved.weight
    return LayerReport(index, solved.layer, weight.method, weight.damp_percent, weight.error)


def _finish(run: _Running) -> Iterator[Progress]:
    """The small files, the receipt, and the files' names, the index last."""
    task, began = run.task, time.monotonic()
    run.writer.sync()
    write_small_files(task.source, task.target, task.recipe)
    yield run.clock.progress("finish", task.config.num_hidden_layers)
    hashes = hash_files(run.writer, task.target)
    run.spent("finish", began)
    run.job.costs.curve = run.memory.points()
    write_receipt(task.target, make_receipt(task, run.job, hashes))
    run.writer.finish(task.target)
