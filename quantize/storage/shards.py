"""The weight files of the result: laid out beforehand, filled in any order, named last.

Every tensor's place is known before the first is written, so an interrupted job goes on in the same files and ends
with the same bytes. While they are filled the files lie in the job's own folder; `finish` moves them out, and the
index (or the only file) gets its name last: its existence is the proof that the rest is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType

from torch import Tensor

from .disk import bytes_of, json_bytes, reserve, sync_folder, write_at, write_whole, writing
from .layout import DTYPES, TensorPlan

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True)
class ShardPlan:
    """One file: its tensors, its header as bytes, where each tensor begins, and its size."""

    name: str
    tensors: list[TensorPlan]
    header: bytes
    offsets: dict[str, int]
    size: int


def plan_shards(tensors: list[TensorPlan], shard_bytes: int) -> list[ShardPlan]:
    """Tensors in their order into files of at most `shard_bytes`, unless one tensor alone is larger."""
    parts: list[list[TensorPlan]] = [[]]
    size = 0
    for tensor in tensors:
        if parts[-1] and size + tensor.nbytes > shard_bytes:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        size += tensor.nbytes
    if len(parts) == 1:
        return [_plan_shard(SINGLE, parts[0])]
    count = len(parts)
    return [_plan_shard(f"model-{i:05}-of-{count:05}.safetensors", part) for i, part in enumerate(parts, 1)]


def _plan_shard(name: str, tensors: list[TensorPlan]) -> ShardPlan:
    # Wider formats first, as the safetensors library does it: every tensor is then aligned.
    tensors = sorted(tensors, key=lambda tensor: -DTYPES[tensor.dtype].itemsize)
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    starts, end = {}, 0
    for tensor in tensors:
        starts[tensor.name] = end
        end += tensor.nbytes
        place = [starts[tensor.name], end]
        table[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": place}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    offsets = {tensor: len(header) + start for tensor, start in starts.items()}
    return ShardPlan(name, tensors, header, offsets, len(header) + end)


class ShardWriter:
    """Fills the files of a plan in `folder`. A context manager: leaving it closes the files and keeps them."""

    def __init__(self, folder: Path, tensors: list[TensorPlan], shard_bytes: int) -> None:
        self.folder = folder
        self.plans = plan_shards(tensors, shard_bytes)
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._place = {name: plan for plan in self.plans for name in plan.offsets}
        self._files: dict[str, FileIO] = {}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(plan.size for plan in self.plans)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def is_laid_out(self) -> bool:
        """Whether every file is there in its full size."""
        paths = [(self.folder / plan.name, plan.size) for plan in self.plans]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    def lay_out(self) -> None:
        """Makes the files with their headers and their full size, so that a full disk shows now."""
        for plan in self.plans:
            path = self.folder / plan.name
            with writing(path, self.size), path.open("wb") as file:
                reserve(file.fileno(), plan.size)
                file.write(plan.header)

    def write(self, name: str, tensor: Tensor) -> None:
        """Puts a tensor in its place. It must have the planned shape and dtype."""
        self.write_rows(name, tensor, 0)

    def write_rows(self, name: str, rows: Tensor, first: int) -> None:
        """Puts some rows of a tensor in their place: a large one need not be in memory whole."""
        plan, shard = self._tensors[name], self._place[name]
        assert rows.dtype == DTYPES[plan.dtype], f"{name}: {rows.dtype}"
        assert rows.shape[1:] == plan.shape[1:], f"{name}: {tuple(rows.shape)} of {plan.shape}"
        row = plan.nbytes // plan.shape[0] if plan.shape else 0
        assert first * row + rows.nbytes <= plan.nbytes, f"{name}: row {first} + {tuple(rows.shape)}"
        file = self._file(shard)
        with writing(self.folder / shard.name, rows.nbytes):
            write_at(file, shard.offsets[name] + first * row, bytes_of(rows.contiguous()))

    def sync(self) -> None:
        """Makes what was written last."""
        for name, file in self._files.items():
            with writing(self.folder / name, 0):
                os.fsync(file.fileno())

    def finish(self, target: Path) -> None:
        """Gives the files their names in `target`, the index last. May be called again after an interruption."""
        self.sync()
        self.__exit__(None, None, None)
        for plan in self.plans:
            source = self.folder / plan.name
            with writing(target / plan.name, 0):
                if source.is_file():
                    source.replace(target / plan.name)
        sync_folder(target)
        if len(self.plans) > 1:
            write_whole(target / INDEX, self.index_bytes() or b"")

    def names(self) -> Iterable[str]:
        """Names of the files that `finish` makes."""
        index = [INDEX] if len(self.plans) > 1 else []
        return [plan.name for plan in self.plans] + index

    def index_bytes(self) -> bytes | None:
        """The index as it will be written; None where there is only one file."""
        if len(self.plans) == 1:
            return None
        total = sum(tensor.nbytes for tensor in self._tensors.values())
        where = {name: self._place[name].name for name in self._tensors}
        return json_bytes({"metadata": {"total_size": total}, "weight_map": where})

    def _file(self, shard: ShardPlan) -> FileIO:
        if shard.name not in self._files:
            path = self.folder / shard.name
            with writing(path, 0):
                self._files[shard.name] = path.open("r+b", buffering=0)
        return self._files[shard.name]
