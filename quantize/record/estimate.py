"""What a quantization will take, before it starts: time, memory, disk. Reads no weight.

Sizes are exact, memory is what the largest stage holds, time rests on how fast this machine multiplies right now.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from bellevl.config import ModelConfig
from bellevl.sizes import block_linears, count_parameters, count_vision_block

from ..blocks.passes import NUMBERS, TOKENS
from ..calibration import CalibrationSource
from ..head import PART
from ..recipe import Recipe
from ..solver.gptq import OUTPUTS
from ..spending.sensitivity import measuring_bytes
from ..task import Task, Work, disk_bytes, prepare
from ..vision import computed_in

#: What Python, torch and the vocabulary take, and the pieces that come and go.
BASE_BYTES = 850_000_000

#: What a conversation takes in every block beside its multiplications; small models take mostly that.
SAMPLE_SECONDS = 0.008


@dataclass(frozen=True)
class Estimate:
    """`disk_bytes` are needed while it runs, of which `result_bytes` stay; `free_bytes` are free now.

    With a budget `measure_seconds` of the `seconds` pass before it is known what gets 8 bits.
    """

    samples: int
    tokens: int
    pictures: int
    seconds: float
    measure_seconds: float
    memory_bytes: int
    disk_bytes: int
    result_bytes: int
    free_bytes: int


def estimate(
    source: str | Path, target: str | Path, recipe: Recipe | None = None, calibration: CalibrationSource = None
) -> Estimate:
    """Raises what `quantize` would raise for the same arguments; writes nothing."""
    task = prepare(Path(source), Path(target), recipe or Recipe(), calibration)
    lengths = task.calibration.lengths
    work, speed = Work.of(task), multiplies_per_second()
    return Estimate(
        samples=len(lengths),
        tokens=sum(lengths),
        pictures=sum(len(sample.pictures) for sample in task.calibration.samples),
        seconds=work.total / speed + SAMPLE_SECONDS * len(lengths) * (task.config.num_hidden_layers + 1),
        measure_seconds=work.measure / speed,
        memory_bytes=memory_bytes(task),
        disk_bytes=disk_bytes(task),
        result_bytes=task.result_bytes,
        free_bytes=free_bytes(task.target),
    )


def memory_bytes(task: Task) -> int:
    """The most that any stage holds: a part of the vision encoder, or a block and its Hessian."""
    config, stored = task.config, _stored_bytes(task.config)
    block = stored * sum(i * o for i, o in block_linears(config).values())
    widest = max(config.mlp_width, config.hidden_size)
    tokens = max(min(TOKENS, NUMBERS // config.mlp_width), *task.calibration.lengths, 0)
    pieces = 4 * 3 * tokens * config.mlp_width
    solve = torch.get_num_threads() * (4 + stored) * widest * min(OUTPUTS, widest)
    working = max(2 * block, block + 4 * widest**2 + max(pieces, solve))
    if task.recipe.float_targets:
        # The float block stays beside the quantized one; what outputs lack, and targets in float32.
        working += block + 2 * 4 * widest * config.hidden_size + pieces
    embed = 0
    if config.visual is not None:  # all but the blocks, and two of these while they change
        blocks = (config.visual.layers - 2) * count_vision_block(config.visual)
        embed = computed_in(config).itemsize * (count_parameters(config).vision - blocks)
    # The head's codes, their words while they are put together, and a part of it while it is solved.
    words = task.recipe.lm_head_bits / 8
    head = (
        round((1 + words) * config.vocab_size * config.hidden_size) + 8 * PART * config.hidden_size if words < 2 else 0
    )
    measured = measuring_bytes(config, stored, sum(task.measured.lengths)) if task.recipe.budget is not None else 0
    return BASE_BYTES + max(working, embed, head, measured)


def multiplies_per_second(size: int = 512, seconds: float = 0.3) -> float:
    """Multiply-adds a second of float32 products here: of the fastest one on one core, times the cores that torch uses.

    Another program that is busy for a moment would make all cores together wait, and says nothing about hours.
    """
    threads, x = torch.get_num_threads(), torch.randn(size, size)
    torch.set_num_threads(1)
    try:
        began, fastest = time.perf_counter(), float("inf")
        while (start := time.perf_counter()) - began < seconds:
            x @ x
            fastest = min(fastest, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return threads * size**3 / fastest


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder is on or will be on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _stored_bytes(config: ModelConfig) -> int:
    return 4 if config.torch_dtype == "float32" else 2
