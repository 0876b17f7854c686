"""Nf4Linear: a linear layer whose weight is NF4 codes (see nf4.py).

Its buffers have the names and shapes of the checkpoint. `prepare` checks them once and hands them to a product; from
then on the layer holds what that product needs and nothing else. torch has no product of NF4 weights: they are
expanded, a few outputs at a time, and multiplied in the model's dtype. Knows no file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import nf4
from .errors import CheckpointError
from .kernels import DENSE_WEIGHTS, PIECE, Choice, Dense, Product
from .nf4_state import (
    ABSMAX,
    BLOCKSIZE,
    CODES,
    LARGEST_STATE,
    NESTED_ABSMAX,
    NESTED_BLOCKSIZE,
    NESTED_TABLE,
    STATE,
    TABLE,
    State,
    block_count,
    packed_bytes,
    read_state,
    write_state,
)
from .packed_linear import PackedLinear

#: A table of levels that differs from the paper's by more is another type's.
SAME_LEVEL = 1e-3


@dataclass(frozen=True)
class Nf4Weight:
    """One layer's weights [out_features, in_features]: packed uint8 [bytes, 1], absmax float32 [blocks]."""

    packed: Tensor
    absmax: Tensor
    in_features: int
    out_features: int
    blocksize: int = BLOCKSIZE

    @property
    def nbytes(self) -> int:
        return self.packed.nbytes + self.absmax.nbytes

    @property
    def step(self) -> int:
        """Outputs that are expanded at a time: they begin with a block, and so with a byte."""
        whole = self.blocksize // math.gcd(self.in_features, self.blocksize)
        return max(PIECE // whole, 1) * whole

    def rows(self, outputs: slice) -> Tensor:
        """Weights [outputs, I] in float32; the first one must begin with a block."""
        first, last = outputs.start * self.in_features, min(outputs.stop, self.out_features) * self.in_features
        packed = self.packed[first // 2 : packed_bytes(last)]
        absmax = self.absmax[first // self.blocksize : block_count(last, self.blocksize)]
        return nf4.dequantize(packed, absmax, last - first, self.blocksize).view(-1, self.in_features)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """All of them, [O, I]."""
        whole = torch.empty((self.out_features, self.in_features), dtype=dtype, device=self.packed.device)
        for piece in self.pieces():
            whole[piece] = self.rows(piece).to(dtype)
        return whole

    def pieces(self, first: int = 0, stop: int | None = None) -> list[slice]:
        """The outputs from `first`, a multiple of `step`, to `stop` (None: all of them), so many at a time."""
        stop = self.out_features if stop is None else stop
        return [slice(start, min(start + self.step, stop)) for start in range(first, stop, self.step)]


class Nf4Linear(PackedLinear):
    """[..., in_features] -> [..., out_features] with NF4 weights and a float bias where the layer has one.

    `nested`: its absolute maxima are quantized, too (double quantization).
    """

    kind = "an NF4 layer"

    def __init__(self, in_features: int, out_features: int, bias: bool = True, nested: bool = False) -> None:
        super().__init__(in_features, out_features)
        self.nested = nested
        count = in_features * out_features
        #: Tensors whose length another block or text changes.
        self.any_length = (ABSMAX, STATE, NESTED_ABSMAX)
        self._hold(CODES, torch.zeros((packed_bytes(count), 1), dtype=torch.uint8))
        blocks = block_count(count)
        self._hold(ABSMAX, torch.zeros(blocks, dtype=torch.uint8 if nested else torch.float32))
        self._hold(TABLE, torch.zeros(16))
        self._hold(STATE, torch.zeros(0, dtype=torch.uint8))
        if nested:
            self._hold(NESTED_ABSMAX, torch.zeros(block_count(blocks, NESTED_BLOCKSIZE)))
            self._hold(NESTED_TABLE, torch.zeros(256))
        self.register_buffer("bias", torch.zeros(out_features, dtype=torch.float16) if bias else None)

    @classmethod
    def from_weight(cls, weight: Tensor, bias: Tensor | None = None) -> Nf4Linear:
        """Rounds a float weight [O, I] to the nearest levels."""
        outputs, inputs = weight.shape
        layer = cls(inputs, outputs, bias is not None)
        packed, absmax = nf4.quantize(weight)
        state = write_state(State((outputs, inputs)))
        layer._hold(CODES, packed)
        layer._hold(ABSMAX, absmax)
        layer._hold(TABLE, nf4.levels().to(weight.device))
        layer._hold(STATE, torch.tensor(list(state), dtype=torch.uint8))
        layer.bias = None if bias is None else bias.half()
        return layer

    def prepare(self, dtype: torch.dtype, name: str = "an NF4 layer") -> None:
        """Checks the tensors, picks the product for a model of `dtype` and lets the rest go.

        `name` is for messages. Raises CheckpointError for tensors that do not fit each other.
        """
        if self._product is not None:
            return
        weight = self._checked(name)
        self.choice = choose(weight.packed.device, dtype, self.in_features, self.out_features)
        self._product = build(self.choice, weight)
        self._like = torch.empty(0, dtype=dtype, device=weight.packed.device)
        if self.bias is not None:
            self.bias = self.bias.to(dtype)
        for part in [part for part in self._buffers if part != "bias"]:
            del self._buffers[part]

    def _exact(self, part: slice) -> Tensor:
        weight = self._checked(self.kind)
        start, stop, _ = part.indices(self.out_features)
        first = start // weight.step * weight.step
        return torch.cat([weight.rows(piece) for piece in weight.pieces(first, stop)])[start - first :]

    def extra_repr(self) -> str:
        product = self.choice.product if self.choice else "not prepared"
        return f"{self.in_features}, {self.out_features}, {product}"

    def _hold(self, name: str, tensor: Tensor) -> None:
        """A buffer whose name has points in it, which `register_buffer` refuses; everything else takes them."""
        self._buffers[name] = tensor

    def _part(self, part: str) -> Tensor:
        tensor = self._buffers[part]
        assert tensor is not None, part
        return tensor

    def _checked(self, name: str) -> Nf4Weight:
        """The weights, or a CheckpointError that says what does not fit."""
        state = self._checked_state(name)
        count = self.in_features * self.out_features
        blocks = block_count(count, state.blocksize)
        self._check(name, CODES, (packed_bytes(count), 1), torch.uint8)
        self._check(name, TABLE, (16,))
        if not torch.allclose(self._part(TABLE).float().cpu(), nf4.levels(), rtol=0.0, atol=SAME_LEVEL):
            raise CheckpointError("model.nf4", name=f"{name}.{TABLE}", reason="its levels are not those of NF4")
        absmax = self._nested(name, state, blocks) if self.nested else self._plain(name, blocks)
        if not bool(absmax.isfinite().all()):
            raise CheckpointError("model.not_finite", name=f"{name}.{ABSMAX}")
        self._check_bias(name)
        return Nf4Weight(self._part(CODES), absmax, self.in_features, self.out_features, state.blocksize)

    def _checked_state(self, name: str) -> State:
        tensor, full = self._part(STATE), f"{name}.{STATE}"
        if tensor.dim() != 1 or tensor.dtype != torch.uint8:
            found = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            raise CheckpointError("model.nf4", name=full, reason=f"its description is {found}, not bytes")
        try:
            state = read_state(bytes(tensor[: LARGEST_STATE + 1].tolist()))
        except ValueError as error:
            raise CheckpointError("model.nf4", name=full, reason=error) from error
        if state.shape != (self.out_features, self.in_features):
            expected = (self.out_features, self.in_features)
            raise CheckpointError("model.shape", name=full, found=state.shape, expected=expected)
        if self.nested != (state.nested_blocksize is not None):
            raise CheckpointError("model.nf4", name=full, reason="it and config.json differ about double quantization")
        return state

    def _plain(self, name: str, blocks: int) -> Tensor:
        self._check(name, ABSMAX, (blocks,))
        return self._part(ABSMAX).float()

    def _nested(self, name: str, state: State, blocks: int) -> Tensor:
        assert state.nested_blocksize is not None
        self._check(name, ABSMAX, (blocks,), torch.uint8)
        self._check(name, NESTED_ABSMAX, (block_count(blocks, state.nested_blocksize),))
        self._check(name, NESTED_TABLE, (256,))
        return nf4.nested_absmax(self._part(ABSMAX), self._part(NESTED_TABLE), self._part(NESTED_ABSMAX), state)

    def _check_bias(self, name: str) -> None:
        if self.bias is not None:
            self._check(name, "bias", (self.out_features,))
            if not bool(self.bias.isfinite().all()):
                raise CheckpointError("model.not_finite", name=f"{name}.bias")

    def _check(self, name: str, part: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> None:
        """Raises CheckpointError unless the tensor has this shape and dtype (None: any float)."""
        tensor = self._part(part)
        if tuple(tensor.shape) != shape:
            raise CheckpointError("model.shape", name=f"{name}.{part}", found=tuple(tensor.shape), expected=shape)
        fits = tensor.is_floating_point() if dtype is None else tensor.dtype == dtype
        if not fits:
            expected = "a float" if dtype is None else str(dtype).removeprefix("torch.")
            found = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError("model.dtype", name=f"{name}.{part}", found=found, expected=expected)


def choose(device: torch.device, dtype: torch.dtype, in_features: int = 5120, out_features: int = 13_696) -> Choice:
    """The product for a layer of this size in a model of `dtype` on `device`; the default size is the 14B's."""
    # Half precision has no fast product on the CPU, and float32 holds its every value.
    exact = torch.float32 if device.type == "cpu" and dtype == torch.float16 else dtype
    why = "torch has no product of NF4 weights"
    if in_features * out_features <= DENSE_WEIGHTS and device.type == "cpu" and exact == torch.float32:
        return Choice("dense", f"{why}; small enough to keep expanded", exact)
    return Choice("dequantize", why, exact)


def build(choice: Choice, weight: Nf4Weight) -> Product:
    """The product that `choice` names."""
    return Dense(weight, choice.dtype) if choice.product == "dense" else Expanding(weight, choice.dtype)


class Expanding:
    """Expanded at every call, a few outputs at a time."""

    def __init__(self, weight: Nf4Weight, dtype: torch.dtype) -> None:
        self._codes, self._dtype = weight, dtype

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.to(self._dtype)
        out = x.new_empty(x.shape[0], self._codes.out_features)
        for piece in self._codes.pieces():
            out[:, piece] = F.linear(rows, self._codes.rows(piece).to(self._dtype))
        return out

    def weight(self) -> Tensor:
        return self._codes.dequantize(self._dtype)

    @property
    def nbytes(self) -> int:
        return self._codes.nbytes
