"""Activations of every calibration sample, in a file: read and written some samples at a time.

A file, because 128 samples of 600 tokens are 1.6 GB at the 14B's width, and because an interrupted job goes on from
it. Plain reads and writes, no memory map: mapped pages would count as the program's memory. Knows no model.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from .disk import bytes_of, sync_folder, write_at, writing

CPU = torch.device("cpu")

#: Up to this many bytes samples are kept in float32, above it in bfloat16, the precision the models run in.
FLOAT32_BYTES = 1 << 29


class Activations:
    """Samples [T_n, C], T_n from `lengths`, read to `device`. A context manager: leaving it closes the file.

    `dtype` they are kept in; None: what their size asks for.
    """

    def __init__(
        self,
        path: Path,
        lengths: list[int],
        width: int,
        device: torch.device = CPU,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.path = path
        self.device = device
        self.lengths = lengths
        self.width = width
        self.dtype = dtype or _dtype(lengths, width)
        row = width * self.dtype.itemsize
        self._starts = [row * sum(lengths[:n]) for n in range(len(lengths))]
        self.size = row * sum(lengths)
        with writing(path, self.size):
            path.touch()
            self._file = path.open("r+b", buffering=0)

    @staticmethod
    def bytes_for(lengths: list[int], width: int) -> int:
        """Size of the file."""
        return sum(lengths) * width * _dtype(lengths, width).itemsize

    def __len__(self) -> int:
        return len(self.lengths)

    def __enter__(self) -> Activations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def spans(self, tokens: int) -> list[range]:
        """The samples in order, in runs of at most `tokens` tokens (one sample may be longer)."""
        runs: list[range] = []
        room = 0
        for n, length in enumerate(self.lengths):
            if not runs or length > room:
                runs.append(range(n, n + 1))
                room = tokens - length
            else:
                runs[-1] = range(runs[-1].start, n + 1)
                room -= length
        return runs

    def read(self, span: range) -> Tensor:
        """The samples of `span` one after the other, float32 [T, C]."""
        rows = torch.empty((sum(self.lengths[n] for n in span), self.width), dtype=self.dtype)
        buffer = bytes_of(rows)
        self._file.seek(self._starts[span.start])
        filled = 0
        while filled < len(buffer):
            count = self._file.readinto(buffer[filled:])
            assert count, f"{self.path} ends inside samples {span}"
            filled += count
        return rows.to(self.device).float()

    def write(self, span: range, x: Tensor) -> None:
        """Sets the samples of `span` to x [T, C]."""
        with writing(self.path, self.size):
            write_at(self._file, self._starts[span.start], bytes_of(x.to(self.dtype).cpu().contiguous()))

    def split(self, span: range, x: Tensor) -> tuple[Tensor, ...]:
        """Rows [T, ...] of the samples of `span`, sample by sample."""
        return x.split([self.lengths[n] for n in span])

    def move(self, path: Path) -> None:
        """Makes what was written last, closes the file and gives it another name."""
        with writing(path, self.size):
            os.fsync(self._file.fileno())
            self._file.close()
            self.path.replace(path)
            sync_folder(path.parent)


def _dtype(lengths: list[int], width: int) -> torch.dtype:
    return torch.float32 if 4 * sum(lengths) * width <= FLOAT32_BYTES else torch.bfloat16
