"""Blocks out of a checkpoint, in order, the next one read while one is worked on. Knows no folder but the source."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from bellevl.checkpoint import Checkpoint
from bellevl.config import ModelConfig
from bellevl.errors import CheckpointError
from bellevl.text import Block

from ..storage.activations import CPU
from ..storage.layout import block_prefix
from ..transform import Rotation
from .linears import StoredLinear


def _stored_linear(name: str, in_features: int, out_features: int, bias: bool) -> nn.Module:
    return StoredLinear(in_features, out_features, bias)


def read_block(source: Path, config: ModelConfig, index: int, rotation: Rotation | None = None) -> Block:
    """Block `index` with weights as they are stored (norms in float32), turned by `rotation`.

    Raises CheckpointError where one is missing or not finite.
    """
    with torch.device("meta"):
        block = Block(config, index, _stored_linear)
    with Checkpoint.open(source) as checkpoint:
        tensors = {name: checkpoint.read_copy(block_prefix(index) + name) for name in block.state_dict()}
    for name in list(tensors):
        full = block_prefix(index) + name
        tensor = tensors.pop(name)
        if not _is_finite(tensor):
            raise CheckpointError("model.not_finite", name=full)
        owner, _, part = name.rpartition(".")
        module = block.get_submodule(owner)
        if isinstance(module, StoredLinear):
            setattr(module, part, tensor)
        else:
            setattr(module, part, nn.Parameter(tensor.float(), requires_grad=False))
    if rotation is not None:
        rotation.block(block, index)
    return block.eval()


def warm_block(source: Path, index: int) -> None:
    """Has the system keep the bytes of block `index` in its cache, as far as it likes."""
    prefix = block_prefix(index)
    with Checkpoint.open(source) as checkpoint:
        for name in checkpoint.names():
            if name.startswith(prefix):
                checkpoint.warm(name)


def _is_finite(tensor: Tensor) -> bool:
    """One number that is not finite makes the sum so too; a sum that overflows asks for the long way."""
    return math.isfinite(float(tensor.sum(dtype=torch.float32))) or bool(tensor.isfinite().all())


class BlockReader:
    """Hands out the blocks in order, on `device`. A thread reads the next one meanwhile.

    `at_once` False: until there is room for another block (`make_room`) it is read no further than into the system's
    cache, which costs this program no memory.
    """

    def __init__(
        self,
        source: Path,
        config: ModelConfig,
        first: int,
        device: torch.device = CPU,
        rotation: Rotation | None = None,
        *,
        at_once: bool = True,
    ) -> None:
        self._source, self._config, self._next, self._device = source, config, first, device
        self._rotation, self._at_once = rotation, at_once
        self._room = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._found: tuple[Block | BaseException, float] | None = None
        self._start()

    def take(self) -> tuple[Block, float]:
        """The next block and the seconds that reading it took. Raises what reading it raised."""
        assert self._thread is not None, "no block is left"
        self.make_room()
        self._thread.join()
        assert self._found is not None
        (block, seconds), self._found = self._found, None
        self._next += 1
        self._start()
        if isinstance(block, BaseException):
            raise block
        return block.to(self._device), seconds

    def make_room(self) -> None:
        """From now on there is room for the next block beside what else is in memory."""
        self._room.set()

    def __enter__(self) -> BlockReader:
        return self

    def __exit__(self, *exc: object) -> None:
        """Waits for the thread."""
        self._stopped = True
        self._room.set()
        if self._thread is not None:
            self._thread.join()
        self._found = None

    def _start(self) -> None:
        self._thread, self._room = None, threading.Event()
        if self._at_once:
            self._room.set()
        if self._next < self._config.num_hidden_layers:
            self._thread = threading.Thread(
                target=self._read, args=(self._next, self._room), name="reader", daemon=True
            )
            self._thread.start()

    def _read(self, index: int, room: threading.Event) -> None:
        began = time.perf_counter()
        block: Block | BaseException
        try:
            warmed = 0.0
            if not room.is_set():
                warm_block(self._source, index)
                warmed = time.perf_counter() - began
                room.wait()
            if self._stopped:
                return
            began = time.perf_counter() - warmed
            block = read_block(self._source, self._config, index, self._rotation)
        except BaseException as error:  # told to whoever takes the block
            block = error
        self._found = block, time.perf_counter() - began
