"""Int4Linear: a linear layer whose weight is int4 words (or, where the checkpoint says so, words of 8 bits).

Its buffers have the names and shapes of the checkpoint. `prepare` checks them once and hands them to a product of
`kernels`; from then on the layer holds what that product needs and nothing else. Knows no file.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from . import kernels, packing
from .config import QuantizationConfig
from .errors import CheckpointError
from .packed_linear import PackedLinear


class Int4Linear(PackedLinear):
    """[..., in_features] -> [..., out_features] with weights of 4 bits, or 8.

    qweight int32 [I/8, O], qzeros int32 [G, O/8] (8 bits: I/4 and O/4), scales float16 [G, O], g_idx int32 [I],
    bias float16 [O].
    A bias buffer is always there, because AutoGPTQ writes one for every layer; `bias` False: a file may lack it.
    """

    qweight: Tensor
    qzeros: Tensor
    scales: Tensor
    g_idx: Tensor

    kind = "an int4 layer"

    def __init__(
        self, in_features: int, out_features: int, quantization: QuantizationConfig, bias: bool = True
    ) -> None:
        super().__init__(in_features, out_features)
        if in_features % 8 or out_features % 8:
            shape = (out_features, in_features)
            raise CheckpointError("model.shape", name="an int4 layer", found=shape, expected="multiples of 8")
        self.quantization = quantization
        self.optional = ("g_idx",) if bias else ("g_idx", "bias")
        groups, per_word = packing.group_count(in_features, quantization.group_size), 32 // quantization.bits
        self.register_buffer("qweight", torch.zeros((in_features // per_word, out_features), dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros((groups, out_features // per_word), dtype=torch.int32))
        self.register_buffer("scales", torch.zeros((groups, out_features), dtype=torch.float16))
        self.register_buffer("g_idx", torch.zeros(in_features, dtype=torch.int32))
        if not self.g_idx.is_meta:  # nothing is computed there: torch would load its compiler for that
            self.g_idx = packing.plain_groups(in_features, quantization.group_size)
        self.register_buffer("bias", torch.zeros(out_features, dtype=torch.float16))

    @classmethod
    def from_weight(cls, weight: Tensor, quantization: QuantizationConfig, bias: Tensor | None = None) -> Int4Linear:
        """Rounds a float weight [O, I] to the nearest point of the grid that its groups' extremes span."""
        layer = cls(weight.shape[1], weight.shape[0], quantization, bias is not None)
        layer.g_idx = layer.g_idx.to(weight.device)
        bits, top = quantization.bits, 2**quantization.bits - 1
        scales, zeros = _nearest_grid(weight.float(), layer.g_idx.long(), quantization.sym, top)
        groups = layer.g_idx.long()
        codes = (weight.float().T / scales[groups] + zeros[groups]).round_().clamp_(0, top).to(torch.uint8)
        layer.qweight = packing.pack_rows(codes, bits)
        layer.qzeros = packing.pack_zeros(zeros, quantization.zero_offset, bits)
        layer.scales = scales.half()
        layer.bias = torch.zeros_like(layer.scales[0]) if bias is None else bias.half()
        return layer

    def prepare(self, dtype: torch.dtype, name: str = "an int4 layer") -> None:
        """Checks the tensors, picks the product for a model of `dtype` and lets the rest go.

        `name` is for messages. Raises CheckpointError for tensors that do not fit each other.
        """
        if self._product is not None:
            return
        bits = self.quantization.bits
        weight = kernels.Int4Weight.from_words(*self._checked(name), bits=bits)
        self.choice = kernels.choose(
            weight.qweight.device,
            dtype,
            self.in_features,
            self.out_features,
            weight.group_size,
            bits,
            self._symmetric(),
        )
        self._product = kernels.build(self.choice, weight)
        self._like = torch.empty(0, dtype=dtype, device=weight.qweight.device)
        if self.bias is not None:
            used = not self.bias.is_meta and bool(self.bias.any())
            self.bias = self.bias.to(dtype) if used else None
        for words in ("qweight", "qzeros", "scales", "g_idx"):
            delattr(self, words)

    def _exact(self, part: slice) -> Tensor:
        qweight, zeros, scales, g_idx = self._checked(self.kind)
        codes = packing.unpack_rows(qweight[:, part], self.quantization.bits)
        weight = packing.dequantize(codes, scales[:, part].float(), zeros[:, part], g_idx.long())
        return weight.T.contiguous()

    def extra_repr(self) -> str:
        product = self.choice.product if self.choice else "not prepared"
        return f"{self.in_features}, {self.out_features}, group {self.quantization.group_size}, {product}"

    def _symmetric(self) -> bool:
        """Whether every zero is in the middle of the codes, whatever the settings say."""
        bits = self.quantization.bits
        zeros = packing.unpack_zeros(self.qzeros, self.quantization.zero_offset, bits)
        return bool((zeros == 2 ** (bits - 1)).all())

    def _checked(self, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """qweight, zeros [G, O], scales, g_idx, or a CheckpointError that says what does not fit."""
        groups, bits = packing.group_count(self.in_features, self.quantization.group_size), self.quantization.bits
        _check(name, "qweight", self.qweight, (self.in_features * bits // 32, self.out_features), torch.int32)
        _check(name, "qzeros", self.qzeros, (groups, self.out_features * bits // 32), torch.int32)
        _check(name, "scales", self.scales, (groups, self.out_features))
        if not bool(self.scales.isfinite().all()):
            raise CheckpointError("model.not_finite", name=f"{name}.scales")
        if self.bias is not None and not self.bias.is_meta:
            _check(name, "bias", self.bias, (self.out_features,))
            if not bool(self.bias.isfinite().all()):
                raise CheckpointError("model.not_finite", name=f"{name}.bias")
        zeros = packing.unpack_zeros(self.qzeros, self.quantization.zero_offset, bits)
        return self.qweight, zeros, self.scales, self._checked_groups(name, groups)

    def _checked_groups(self, name: str, groups: int) -> Tensor:
        if self.g_idx.is_meta:
            plain = packing.plain_groups(self.in_features, self.quantization.group_size)
            return plain.to(self.qweight.device)
        _check(name, "g_idx", self.g_idx, (self.in_features,), torch.int32)
        least, most = int(self.g_idx.min()), int(self.g_idx.max())
        if least < 0 or most >= groups:
            found = least if least < 0 else most
            raise CheckpointError("model.groups", name=f"{name}.g_idx", found=found, groups=groups)
        return self.g_idx


def as_stored(declared: QuantizationConfig, qweight: Tensor, qzeros: Tensor) -> QuantizationConfig:
    """`declared`, or v2 where it says v1 and a layer's words are v2's."""
    if declared.checkpoint_format != "gptq" or not packing.keeps_zeros(qweight, qzeros, declared.sym, declared.bits):
        return declared
    return replace(declared, checkpoint_format="gptq_v2")


def _check(name: str, part: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> None:
    """Raises CheckpointError unless the tensor has this shape and dtype (None: any float)."""
    if tuple(tensor.shape) != shape:
        raise CheckpointError("model.shape", name=f"{name}.{part}", found=tuple(tensor.shape), expected=shape)
    fits = tensor.is_floating_point() if dtype is None else tensor.dtype == dtype
    if not fits:
        expected = "a float" if dtype is None else str(dtype).removeprefix("torch.")
        found = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError("model.dtype", name=f"{name}.{part}", found=found, expected=expected)


def _nearest_grid(weight: Tensor, g_idx: Tensor, sym: bool, top: int) -> tuple[Tensor, Tensor]:
    """Scales and zeros [G, O] that span each group's extremes (and zero) with codes 0 .. `top`. Weight [O, I]."""
    groups = int(g_idx.max()) + 1
    index = g_idx[:, None].expand(-1, weight.shape[0])
    low = weight.new_zeros((groups, weight.shape[0])).scatter_reduce_(0, index, weight.T, "amin")
    high = torch.zeros_like(low).scatter_reduce_(0, index, weight.T, "amax")
    if sym:
        high = torch.maximum(high, -low)
        low = -high
    # Rounded to what is stored, and never 0: a group of zeros keeps code = zero.
    scales = ((high - low) / top).half().float()
    scales = torch.where(scales > 0, scales, torch.ones_like(scales))
    zeros = torch.full_like(scales, (top + 1) // 2) if sym else (-low / scales).round_().clamp_(1, top)
    return scales, zeros.to(torch.uint8)
