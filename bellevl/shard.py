"""One file of tensors: mapped, or read into memory of its own. Nothing in it is executed. Knows no model."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import CheckpointError
from .plain_reads import PlainFile


class Shard:
    """One file of tensors, opened once, read tensor by tensor."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path, self._stack = path, stack
        self._tensors: dict[str, Tensor] | None = None
        if path.suffix == ".safetensors":
            self._file: Any = stack.enter_context(_open_safetensors(path))
            self.names = list(self._file.keys())
        else:
            self._tensors = _open_pickle(path)
            self.names = list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        if self._tensors is not None:
            return tuple(self._tensors[name].shape)
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        if self._tensors is not None:
            return self._tensors[name]
        try:
            return self._file.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CheckpointError("model.damaged_shard", shard=self.path, reason=error) from error

    def read_copy(
        self, name: str, dtype: torch.dtype | None, shared: bool = False, rows: range | None = None
    ) -> Tensor:
        """In memory of its own, floats cast to `dtype`; see PlainFile.read for `shared` and `rows`."""
        copied = None
        if self._tensors is None:
            try:
                copied = self._plain.read(name, dtype, shared=shared, rows=rows)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CheckpointError("model.damaged_shard", shard=self.path, reason=error) from error
        if copied is not None:
            return copied
        tensor = self.read(name) if rows is None else self.read(name)[rows.start : rows.stop]
        return tensor.to(dtype if tensor.is_floating_point() else None, copy=True)

    def warm(self, name: str) -> None:
        """Into the system's cache; nothing for a pickle, which lies there as a whole."""
        if self._tensors is None:
            try:
                self._plain.warm(name)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CheckpointError("model.damaged_shard", shard=self.path, reason=error) from error

    def keep_shared(self) -> None:
        if self._tensors is None:
            self._plain.keep_shared()

    @cached_property
    def _plain(self) -> PlainFile:
        return self._stack.enter_context(PlainFile(self.path))


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError("model.damaged_shard", shard=path, reason=error) from error


def _open_pickle(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.bin` file, memory-mapped where its form allows it; anything but tensors is refused unread."""
    from pickle import UnpicklingError

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        raise CheckpointError("model.pickle", shard=path) from error
    except MemoryError:
        raise
    except Exception as error:  # an unpickler of damaged bytes raises anything; the file is at fault
        reason = str(error) or type(error).__name__
        raise CheckpointError("model.damaged_shard", shard=path, reason=reason) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise CheckpointError("model.pickle", shard=path)
    return tensors
