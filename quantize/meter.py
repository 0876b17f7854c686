"""What a job costs while it runs: seconds by what they went into, memory over time. Knows no job."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

#: What the time of a block goes into, in the order of the work. `wait`: for the next block's bytes, beyond `read`,
#: which runs beside the work.
PARTS = ("wait", "forward", "hessian", "solve", "pack", "write")

#: Seconds between two looks at the memory.
INTERVAL = 0.1

#: Points that a memory curve has at most; then two become one.
POINTS = 1000

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Memory that this process holds now; where the system does not tell, the most it ever held; or None."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # on Windows memory is not told
        return None
    # Only macOS comes here, and it counts in bytes.
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def give_back() -> None:
    """Memory that was freed goes back to the system now, where the C library is told so: glibc keeps what came in
    pieces below 32 MB, which was 0.2 GB beside the 14B's largest Hessian."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


def device_peak(device: torch.device) -> int:
    """The most bytes that torch has held on a GPU in this process, 0 for the CPU."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0


class Stopwatch:
    """Adds up seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The time inside counts as `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def take(self) -> dict[str, float]:
        """What was added up since the last call, to the millisecond."""
        taken, self.seconds = self.seconds, {}
        return {name: round(seconds, 3) for name, seconds in taken.items()}


class MemoryWatch:
    """Looks at this process's memory ten times a second. A context manager: leaving it stops the looking.

    `curve` [(seconds, bytes)] continues one of an earlier run; each point is the most within its stretch of time.
    """

    def __init__(self, curve: list[tuple[float, int]] | None = None) -> None:
        self.curve = list(curve or [])
        self._offset = self.curve[-1][0] if self.curve else 0.0
        self._step = 0.5
        self._peak = 0
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """The most of all runs."""
        with self._lock:
            return max((count for _, count in self.curve), default=0)

    def take_peak(self) -> int:
        """The most since the last call."""
        self._look()
        with self._lock:
            taken, self._peak = self._peak, 0
        return taken

    def points(self) -> list[tuple[float, int]]:
        """The curve so far."""
        with self._lock:
            return list(self.curve)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        held = resident_bytes()
        if held is None:
            return
        with self._lock:
            self._peak = max(self._peak, held)
            now = round(self._offset + time.monotonic() - self._began, 1)
            if self.curve and now - self.curve[-1][0] < self._step:
                self.curve[-1] = (self.curve[-1][0], max(self.curve[-1][1], held))
                return
            self.curve.append((now, held))
            if len(self.curve) > POINTS:
                self._thin()

    def _thin(self) -> None:
        pairs = zip(self.curve[::2], self.curve[1::2], strict=False)
        self.curve = [(a[0], max(a[1], b[1])) for a, b in pairs] + self.curve[len(self.curve) // 2 * 2 :]
        self._step *= 2
