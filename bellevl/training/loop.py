"""A training loop that can be stopped anywhere: batches by number, one checkpoint file, progress as records.

Knows no model: a `Job` brings its parameters and its loss. The terminal draws the progress.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """How far and how fast. Warm-up, then constant, then linear decay to zero over the last part.

    Hidden matrices learn with Muon at `matrix_lr`, everything else (embeddings, norms, biases, vectors) with AdamW
    at `other_lr`. `until`: leave earlier, for a stage that takes over before the rate has fallen.
    """

    steps: int
    matrix_lr: float = 2e-3
    other_lr: float = 2e-3
    warmup: int = 50
    decay: float = 0.35
    weight_decay: float = 0.05
    clip: float = 1.0
    until: int | None = None

    @property
    def last(self) -> int:
        """The step that the job ends with."""
        return self.steps if self.until is None else self.until

    def factor(self, step: int) -> float:
        """Share of the learning rate at `step`."""
        begin = self.steps * (1 - self.decay)
        fall = (self.steps - step) / max(self.steps - begin, 1)
        return min((step + 1) / max(self.warmup, 1), 1.0, max(fall, 0.0))


@dataclass
class Job:
    """One stage of training: what is trained, on what, and where its state is kept.

    `batches(first)` yields batches from number `first` on, the same for the same number; `loss` maps a batch to the
    scalar that is minimised and figures to report.
    """

    name: str
    module: nn.Module
    schedule: Schedule
    batches: Callable[[int], Iterable[Any]]
    loss: Callable[[Any], tuple[Tensor, dict[str, float]]]
    folder: Path
    save_every: float = 120.0
    matrices: Callable[[str, nn.Parameter], bool] = field(default=lambda name, p: is_matrix(name, p))

    @property
    def state_path(self) -> Path:
        return self.folder / f"{self.name}.state.pt"


@dataclass(frozen=True)
class Progress:
    """Where a job is after a step; `figures` are running means."""

    job: str
    step: int
    steps: int
    figures: dict[str, float]
    seconds: float


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Hidden matrices: two-dimensional, neither embedding nor head nor a table of vectors."""
    tables = ("wte", "lm_head", "positional_embedding", "query", "pos_embed", "head")
    return parameter.ndim == 2 and not any(table in name for table in tables)


def train(job: Job) -> Iterator[Progress]:
    """Runs the job to its end, from its state file when there is one. Yields after every step."""
    job.folder.mkdir(parents=True, exist_ok=True)
    optimizers = _optimizers(job)
    step = _resume(job, optimizers)
    figures: dict[str, float] = {}
    saved = began = time.monotonic()
    if step >= job.schedule.last:
        return
    for batch in job.batches(step):
        _set_rates(optimizers, job.schedule.factor(step))
        values = _one_step(job, optimizers, batch)
        for name, value in values.items():
            figures[name] = value if name not in figures else 0.98 * figures[name] + 0.02 * value
        step += 1
        if time.monotonic() - saved > job.save_every or step == job.schedule.last:
            save(job, optimizers, step)
            saved = time.monotonic()
        yield Progress(job.name, step, job.schedule.last, dict(figures), time.monotonic() - began)
        if step >= job.schedule.last:
            return


def _one_step(job: Job, optimizers: list[torch.optim.Optimizer], batch: Any) -> dict[str, float]:
    loss, figures = job.loss(batch)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"{job.name}: the loss is {float(loss.detach())}")
    loss.backward()
    nn.utils.clip_grad_norm_(_trained(job.module), job.schedule.clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {"loss": float(loss.detach()), **figures}


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _optimizers(job: Job) -> list[torch.optim.Optimizer]:
    trained = [(n, p) for n, p in job.module.named_parameters() if p.requires_grad]
    matrices = [p for n, p in trained if job.matrices(n, p)]
    others = [p for n, p in trained if not job.matrices(n, p)]
    s = job.schedule
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, lr=s.matrix_lr, weight_decay=s.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    if others:
        optimizers.append(torch.optim.AdamW(others, lr=s.other_lr, betas=(0.9, 0.95), weight_decay=0.0))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def _set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor


def save(job: Job, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    """Writes the state beside its name first: a killed job leaves the last whole one."""
    state = {
        "step": step,
        "module": job.module.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    partial = job.state_path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, job.state_path)


def _resume(job: Job, optimizers: list[torch.optim.Optimizer]) -> int:
    if not job.state_path.is_file():
        return 0
    state = torch.load(job.state_path, map_location="cpu", weights_only=True)
    job.module.load_state_dict(state["module"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        rates = [group["base_lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(saved)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["base_lr"] = rate  # the schedule's, which may have been changed since
    return int(state["step"])
