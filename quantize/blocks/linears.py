"""A block's linears while it is quantized: as they are stored, and as they become.

Weights stay in the dtype they are stored in; bfloat16 ones are multiplied in it where the processor can, everything
else in float32, piece by piece. Knows no activations and no file.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bellevl import packing

from ..solver.gptq import QuantizedWeight

#: Outputs of a stored layer that become float32 at a time.
PIECE = 2048


class StoredLinear(nn.Module):
    """A float layer in the dtype it is stored in; gives float32."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty((out_features, in_features)))
        self.register_buffer("bias", torch.empty(out_features) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in float32"""
        if multiplies_in(self.weight) == torch.bfloat16:
            out = F.linear(x.bfloat16(), self.weight).float()
        else:
            out = torch.cat([F.linear(x, weight.float()) for weight in self.weight.split(PIECE)], dim=-1)
        return out if self.bias is None else out.add_(self.bias.float())


class QuantizedLinear(nn.Module):
    """A solved layer with the weights that a reader of the result gets, in the dtype that its block multiplies in."""

    def __init__(
        self, quantized: QuantizedWeight, bias: Tensor | None, dtype: torch.dtype, divisor: Tensor | None = None
    ) -> None:
        """`divisor` [I]: what inputs are divided by first; a power of two each."""
        super().__init__()
        inputs, outputs = quantized.codes.shape
        self.weight = torch.empty((inputs, outputs), dtype=dtype, device=quantized.codes.device)
        groups = quantized.g_idx.long()
        for start in range(0, outputs, PIECE):
            part = slice(start, start + PIECE)
            scales = quantized.scales[:, part].to(dtype)
            piece = packing.dequantize(quantized.codes[:, part], scales, quantized.zeros[:, part], groups)
            self.weight[:, part] = piece if divisor is None else piece / divisor.to(dtype)[:, None]
        self.bias = None if bias is None else bias.half()

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in float32"""
        out = (x.to(self.weight.dtype) @ self.weight).float()
        return out if self.bias is None else out.add_(self.bias.float())


def multiplies_in(weight: Tensor) -> torch.dtype:
    """What layers stored in this weight's dtype are multiplied in, where it is."""
    return torch.bfloat16 if weight.dtype == torch.bfloat16 and _has_bfloat16(weight.device) else torch.float32


@functools.lru_cache(maxsize=8)
def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device has products of bfloat16; without them torch is slower in it than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(bool(ask()) for ask in asked if ask is not None)
