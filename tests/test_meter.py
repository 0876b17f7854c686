"""Seconds by part and memory over time."""

from __future__ import annotations

import mmap
import time

import pytest
import torch

from quantize import meter
from quantize.meter import MemoryWatch, Stopwatch
from quantize.record.plot import ticks
from quantize.solver.parallel import run_parallel


def test_seconds_are_added_up_by_part() -> None:
    """Parts add up over several stretches, an error inside counts too, and taking them begins anew."""
    watch = Stopwatch()
    for _ in range(2):
        with watch.part("solve"):
            time.sleep(0.01)
    with pytest.raises(ValueError), watch.part("read"):
        raise ValueError
    taken = watch.take()
    assert taken["solve"] >= 0.02 and taken.keys() == {"solve", "read"}
    assert watch.take() == {}


def test_memory_is_seen_while_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of memory shows in the peak of its stretch, not in the next one's, and in the whole curve."""
    monkeypatch.setattr(meter, "INTERVAL", 0.005)
    size = 256 << 20  # what earlier tests left to be collected is far smaller
    with MemoryWatch() as watch:
        with mmap.mmap(-1, size) as held:  # given back at once, as malloc's need not be
            before = watch.take_peak()
            for page in range(0, size, mmap.PAGESIZE):
                held[page] = 1
            with_block = watch.take_peak()
        time.sleep(0.05)
        watch.take_peak()
        without = watch.take_peak()
    assert with_block - before > size // 2 < with_block - without
    assert watch.peak == max(count for _, count in watch.points()) >= with_block


def test_a_curve_is_continued_and_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier run's points come first, time goes on from them, and many points become fewer, not lower."""
    with MemoryWatch([(0.0, 5), (10.0, 7 << 40)]) as watch:
        pass
    assert watch.points()[:2] == [(0.0, 5), (10.0, 7 << 40)] and watch.peak == 7 << 40
    monkeypatch.setattr(meter, "POINTS", 50)
    long = MemoryWatch([(float(n), 1000 + n) for n in range(200)])
    for _ in range(3):
        long._step = 0.0
        long._look()
    assert len(long.points()) < 110 and long.peak >= 1199
    seconds = [second for second, _ in long.points()]
    assert seconds == sorted(seconds)


def test_work_is_shared_out_and_errors_come_out() -> None:
    """Every job runs once with fewer threads of its own, all threads are there again afterwards, an error is raised."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        seen: list[tuple[int, int]] = []
        run_parallel([lambda n=n: seen.append((n, torch.get_num_threads())) for n in range(2)])  # type: ignore[misc]
        assert sorted(seen) == [(0, 2), (1, 2)]
        assert torch.get_num_threads() == 4

        def fail() -> None:
            raise MemoryError("too large")

        with pytest.raises(MemoryError):
            run_parallel([fail, fail])
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 40, [0, 5, 10, 15, 20, 25, 30, 35, 40]), (0.1, 0.32, [0.1, 0.15, 0.2, 0.25, 0.3])]
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    """Ticks are steps of 1, 2 or 5 and lie between the ends."""
    found = ticks(low, high, 8 if high > 1 else 5)
    assert found == pytest.approx(expected)
