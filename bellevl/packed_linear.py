"""What every layer with packed weights has in common: its life from the file's tensors to a product.

Until `prepare` such a layer holds the checkpoint's tensors, afterwards what its product needs and nothing else. Knows
no packing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernels import Choice, Product

Self = TypeVar("Self", bound="PackedLinear")


class PackedLinear(nn.Module):
    """[..., in_features] -> [..., out_features]; a subclass has buffers with the checkpoint's names, `prepare` and
    `_exact`."""

    bias: Tensor | None

    #: What messages call it, and tensors that a checkpoint may leave out.
    kind = "a packed layer"
    optional: tuple[str, ...] = ()

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.choice: Choice | None = None
        self._product: Product | None = None
        self._like = torch.empty(0)

    def prepare(self, dtype: torch.dtype, name: str = "") -> None:
        """Checks the tensors, picks the product for a model of `dtype` and lets the rest go.

        `name` is for messages. Raises CheckpointError for tensors that do not fit each other.
        """
        raise NotImplementedError

    def _exact(self, part: slice) -> Tensor:
        """The weights [O, I] of some outputs in float32, from the checkpoint's tensors."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Memory of the weight and the bias."""
        held = sum(buffer.nbytes for buffer in self.buffers(recurse=False))
        return held + (self._product.nbytes if self._product is not None else 0)

    def dequantize(self, part: slice = slice(None)) -> Tensor:
        """The weights [O, I] of some outputs, or of all: exact in float32 before `prepare`, then those that the product
        multiplies with."""
        return self._exact(part) if self._product is None else self._product.weight()[part]

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]"""
        if self._product is None or (x.requires_grad and torch.is_grad_enabled()):
            # products of packed weights have no backward pass; expanded weights do
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return F.linear(x, self.dequantize().to(x.dtype), bias)
        out = self._product(x.reshape(-1, self.in_features)).view(*x.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves or casts the layer, which is possible only before `prepare`: the product keeps its own form."""
        if self._product is not None:
            probe = self._like
            moved = fn(probe)
            if (moved.dtype, moved.device) != (probe.dtype, probe.device):
                raise RuntimeError(f"{self.kind} stays as it was loaded: call load_model with that device and dtype")
        return super()._apply(fn, recurse)
