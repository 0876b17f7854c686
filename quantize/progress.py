"""What a long job tells while it runs. Knows no job."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .job import BlockReport, LayerReport
from .spending.bits_of_units import UnitReport


@dataclass(frozen=True)
class Progress:
    """One step done. `stage` is "measure", "copy", "embed", "block", "head" or "finish".

    `fraction` of the work is done, `elapsed` seconds of this run are over and `remaining` are left (None: too early
    to say). In stage "block" `block` counts from 0 and `report` is the layer just solved (None: the block is done, and
    `cost` says what it cost). The last of stage "measure" has the `units` that a budget was spent on.
    """

    stage: str
    fraction: float
    elapsed: float
    remaining: float | None
    blocks: int
    block: int | None = None
    report: LayerReport | None = None
    cost: BlockReport | None = None
    units: tuple[UnitReport, ...] = ()


class Clock:
    """Turns work done into time left. Work is in any unit; what an earlier run did takes no time now."""

    def __init__(self, total: float, done: float) -> None:
        self._total, self._done, self._start = max(total, 1.0), done, done
        self._began = time.monotonic()

    def advance(self, work: float) -> None:
        """`work` more is done."""
        self._done += work

    def skip(self, work: float) -> None:
        """`work` more was done by an earlier run."""
        self._done += work
        self._start += work

    def progress(
        self,
        stage: str,
        blocks: int,
        block: int | None = None,
        report: LayerReport | None = None,
        cost: BlockReport | None = None,
        units: tuple[UnitReport, ...] = (),
    ) -> Progress:
        """A record of now."""
        elapsed = time.monotonic() - self._began
        new = self._done - self._start
        left = elapsed * (self._total - self._done) / new if new > 0 and elapsed > 1 else None
        fraction = min(self._done / self._total, 1.0)
        return Progress(stage, fraction, elapsed, left, blocks, block, report, cost, units)
