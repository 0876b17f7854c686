"""Tensors of the source, read with plain reads instead of a memory map.

Mapped pages would count as this program's memory, and a disk that fails under a map kills the program: here it becomes
an error that names the shard. Knows no block and no job.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

from bellevl.checkpoint import Checkpoint
from bellevl.errors import CheckpointError

from .disk import bytes_of

#: Formats as safetensors names them; others are left to its own library.
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


def read_tensor(checkpoint: Checkpoint, name: str) -> Tensor:
    """A tensor in memory of its own, as it is stored. Raises CheckpointError."""
    path = checkpoint.shard_of(name)
    if path.suffix != ".safetensors":
        return checkpoint.read(name).clone()
    try:
        with path.open("rb", buffering=0) as file:
            start, table = _read_header(file)
            entry = table[name]
            if entry["dtype"] not in DTYPES:
                return checkpoint.read(name).clone()
            tensor = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]])
            _check_place(entry, tensor)
            file.seek(start + entry["data_offsets"][0])
            _fill(file, tensor)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError("model.damaged_shard", shard=path, reason=error) from error
    return tensor


def _read_header(file: Any) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, and the table of them."""
    size = int.from_bytes(file.read(8), "little")
    text = file.read(min(size, 1 << 30))
    if len(text) < size:
        raise ValueError("it ends inside its header")
    return 8 + size, json.loads(text)


def _check_place(entry: dict[str, Any], tensor: Tensor) -> None:
    first, end = entry["data_offsets"]
    if end - first != tensor.nbytes or math.prod(entry["shape"]) != tensor.numel():
        raise ValueError("its table contradicts itself")


def _fill(file: Any, tensor: Tensor) -> None:
    buffer = bytes_of(tensor)
    filled = 0
    while filled < len(buffer):
        count = file.readinto(buffer[filled:])
        if not count:
            raise ValueError("it ends inside a tensor")
        filled += count
