"""Will it fit? Said before a byte of weights is read: what a model needs against what is free.

Knows the configuration, not the weights. Where free memory cannot be read, nothing is refused.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from bellevl.config import ModelConfig, QuantizationConfig
from bellevl.errors import OutOfMemoryError
from bellevl.sizes import cache_bytes, count_parameters, mapped_bytes, vision_bytes, weight_bytes

from ..screen.clean import clean_line
from ..words import say
from .memory_users import largest_user

#: Activations, the allocator's rounding and what else is not counted, as a part of the counted.
MARGIN = 0.08

#: A model with less than this in float32 runs so on a CPU, its int4 layers expanded (checkpoint.py, kernels.py).
SMALL = 1 << 30


@dataclass(frozen=True)
class Memory:
    """Bytes: what a model needs for an answer and what is free on its device (None: unknown)."""

    need: int
    free: int | None


def estimate(
    config: ModelConfig,
    quantization: QuantizationConfig | None,
    tokens: int,
    device: str,
    limit: int | None = None,
    *,
    kv: str = "float",
    vision: str = "auto",
) -> Memory:
    """What answering with `tokens` tokens in the cache takes on `device`, and what is free there: no more than `limit`
    bytes (`--max-memory`). `kv` and `vision` as in `--kv` and `--vision`."""
    small = device == "cpu" and is_small(config)
    itemsize, quantization = (4, None) if small else (2, quantization)
    counted = weight_bytes(config, quantization, itemsize) + cache_bytes(config, tokens, itemsize, kv)
    if not small:
        counted -= mapped_bytes(config, quantization)
    if vision_apart(config, device, vision):
        counted -= vision_bytes(config, itemsize)
    sizes = [size for size in (free_memory(device), limit) if size is not None]
    return Memory(int(counted * (1 + MARGIN)), min(sizes) if sizes else None)


def vision_apart(config: ModelConfig, device: str, vision: str) -> bool:
    """Whether the vision encoder stays on the CPU while the rest is elsewhere."""
    return vision == "cpu" and device != "cpu" and config.visual is not None


def estimate_vision(config: ModelConfig) -> Memory:
    """What the vision encoder alone takes on the CPU, and what is free there."""
    counted = vision_bytes(config, 4 if is_small(config) else 2)
    return Memory(int(counted * (1 + MARGIN)), free_memory("cpu"))


def fits(memory: Memory) -> bool:
    return memory.free is None or memory.need <= memory.free


def check(memory: Memory, name: str, device: str = "cpu", choices: str = "") -> None:
    """Raises OutOfMemoryError when it will not fit, with who has the memory. `choices` are what to try first."""
    if fits(memory):
        return
    user = largest_user(device)
    users = "" if user is None else say("memory.user", name=clean_line(user[0]), taken=readable_bytes(user[1]))
    need, free = readable_bytes(memory.need), readable_bytes(memory.free or 0)
    raise OutOfMemoryError("memory.short", what=name, need=need, free=free, users=users, choices=choices)


def is_small(config: ModelConfig) -> bool:
    """Whether a CPU is a good place for a model."""
    return 4 * count_parameters(config).total < SMALL


def free_memory(device: str = "cpu") -> int | None:
    """Bytes free on `device`, None where the system does not say. Imports torch for a GPU."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    values = [v for v in (_meminfo("MemAvailable"), _group_free()) if v is not None]
    return min(values) if values else None


def peak_memory(device: str = "cpu") -> int | None:
    """The most bytes that this process has had at once on `device`."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_reserved(torch.device(device)))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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
