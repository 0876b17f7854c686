"""Tensors of a .safetensors file by plain reads instead of a memory map.

Mapped pages count as this program's memory as long as the file is open, whoever still needs them; and a disk that fails
under a map kills the program, where here it becomes an error. Knows no model.
"""

from __future__ import annotations

import json
import math
from contextlib import AbstractContextManager
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

#: Formats as safetensors names them; others are left to its own library.
DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I32": torch.int32,
    "U8": torch.uint8,
}

#: Elements that are read and cast at a time: few enough that the allocator hands the same memory out again. Memory
#: that is new costs more than what is read into it (1.4 against 8.3 GB/s from the system's cache on a Zen 4).
PIECE = 1 << 21

#: Bytes that are read at a time when nothing is kept of them.
WARMED = 1 << 20


class PlainFile(AbstractContextManager["PlainFile"]):
    """An open file; its methods raise OSError or ValueError for one that is damaged."""

    def __init__(self, path: Path) -> None:
        self._file: FileIO = path.open("rb", buffering=0)
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def read(
        self, name: str, dtype: torch.dtype | None = None, *, shared: bool = False, rows: range | None = None
    ) -> Tensor | None:
        """A tensor in memory of its own, floats in `dtype`; None where its format is not one of DTYPES.

        There is no second copy of a tensor that is cast, but for a piece. `shared`: its memory is used again by the
        next one that is read so. `rows`: no others.
        """
        start, table = self._header
        entry = table[name]
        stored = DTYPES.get(entry["dtype"])
        if stored is None:
            return None
        shape, (first, end) = entry["shape"], entry["data_offsets"]
        if end - first != math.prod(shape) * stored.itemsize:
            raise ValueError("its table contradicts itself")
        if rows is not None:
            first += rows.start * math.prod(shape[1:]) * stored.itemsize
            shape = [len(rows), *shape[1:]]
        if shared:
            tensor = self._reused(math.prod(shape) * stored.itemsize).view(stored).view(shape)
        else:
            tensor = torch.empty(shape, dtype=dtype if dtype and stored.is_floating_point else stored)
        self._file.seek(start + first)
        if tensor.dtype == stored:
            self._fill(tensor)
        else:
            for piece in tensor.view(-1).split(PIECE):
                read = torch.empty(piece.shape, dtype=stored)
                self._fill(read)
                piece.copy_(read)
        return tensor

    def warm(self, name: str) -> None:
        """Reads a tensor and keeps nothing of it: the system's cache does."""
        start, table = self._header
        first, end = table[name]["data_offsets"]
        buffer = memoryview(bytearray(WARMED))
        self._file.seek(start + first)
        left = end - first
        while left > 0:
            count = self._file.readinto(buffer[: min(left, WARMED)])
            if not count:
                raise ValueError("it ends inside a tensor")
            left -= count

    def keep_shared(self) -> None:
        """The memory that was shared is from now on that of the tensor that was read last."""
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def _reused(self, size: int) -> Tensor:
        if self._scratch.numel() < size:
            self._scratch = torch.empty(size, dtype=torch.uint8)
        return self._scratch[:size]

    @cached_property
    def _header(self) -> tuple[int, dict[str, Any]]:
        """Where the tensors begin, and the table of them."""
        self._file.seek(0)
        size = int.from_bytes(self._file.read(8), "little")
        text = self._file.read(min(size, 1 << 30))
        if len(text) < size:
            raise ValueError("it ends inside its header")
        return 8 + size, json.loads(text)

    def _fill(self, tensor: Tensor) -> None:
        buffer = tensor.reshape(-1).view(torch.uint8).numpy().data
        filled = 0
        while filled < len(buffer):
            count = self._file.readinto(buffer[filled:])
            if not count:
                raise ValueError("it ends inside a tensor")
            filled += count
