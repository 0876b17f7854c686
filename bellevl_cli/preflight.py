"""Will it fit? Said before a byte of weights is read: what a model needs against what is free.

Knows the configuration, not the weights. Where free memory cannot be read, nothing is refused.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bellevl.config import ModelConfig, QuantizationConfig
from bellevl.errors import OutOfMemoryError
from bellevl.sizes import cache_bytes, count_parameters, weight_bytes

#: Activations, the allocator's rounding and what else is not counted, as a part of the counted.
MARGIN = 0.08

#: A model with less than this in float32 runs so on a CPU, its int4 layers expanded (checkpoint.py, kernels.py).
SMALL = 1 << 30


@dataclass(frozen=True)
class Memory:
    """Bytes: what a model needs for an answer and what is free on its device (None: unknown)."""

    need: int
    free: int | None


def estimate(config: ModelConfig, quantization: QuantizationConfig | None, tokens: int, device: str) -> Memory:
    """What answering with `tokens` tokens in the cache takes on `device`, and what is free there."""
    small = device == "cpu" and 4 * count_parameters(config).total < SMALL
    itemsize, quantization = (4, None) if small else (2, quantization)
    counted = weight_bytes(config, quantization, itemsize) + cache_bytes(config, tokens, itemsize)
    return Memory(int(counted * (1 + MARGIN)), free_memory(device))


def check(memory: Memory, name: str) -> None:
    """Raises OutOfMemoryError when it will not fit."""
    if memory.free is not None and memory.need > memory.free:
        raise OutOfMemoryError(
            "memory.short", what=name, need=readable_bytes(memory.need), free=readable_bytes(memory.free)
        )


def free_memory(device: str = "cpu") -> int | None:
    """Bytes free on `device`, None where the system does not say. Imports torch for a GPU."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    values = [v for v in (_meminfo("MemAvailable"), _group_free()) if v is not None]
    return min(values) if values else None


def total_memory() -> int | None:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def readable_bytes(count: int) -> str:
    """1500000000 -> "1.5 GB"; powers of ten, as disks and GPUs are sold."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _meminfo(field: str) -> int | None:
    """A field of Linux's /proc/meminfo in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _group_free() -> int | None:
    """What a container's limit leaves (control groups, version 2 and 1)."""
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        numbers = [_read(Path(folder) / name).strip() for name in (limit, used)]
        if all(n.isdigit() for n in numbers):
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", _read(Path(folder) / "memory.stat"), re.MULTILINE)
            return int(numbers[0]) - int(numbers[1]) + (int(cached[1]) if cached else 0)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
