"""Which product runs a quantized layer where, and why.

`choose` names a product for a layer on a device, with the reason in words; `build` makes it. Four products exist:

- `int4pack`: torch's own weight-only int4 product. On the CPU it needs bfloat16 (with float32 or float16
  activations torch runs a scalar loop, 10 to 30 times slower than expanding the weights), on CUDA bfloat16 and
  compute capability 8.0.
- `int8pack`: torch's product with weights of 8 bits and one symmetric scale an output (int8_product.py).
- `dequantize`: expands the weights piece by piece at every call and multiplies in the model's dtype. Everywhere.
- `dense`: expands the weights once and keeps them. For layers so small that memory does not matter.

Measured on one core of a Zen 4 with bfloat16 dot products (torch 2.13), in=5120, out=13696, group 128, milliseconds:

    rows   int4pack bf16   expand + matmul bf16   F.linear bf16   int4pack float32   expand + matmul float32
       1             3.7                      -            12.0                119                        62
      64             104                    100              50                  -                       166
     300             494                    260             201                  -                       504

so on the CPU int4pack serves decode, and from PREFILL_ROWS rows on the weights are expanded out of its own storage:
there is no second copy. At 256x768 both cost the same at about 100 rows. A float32 layer of that size takes 0.03 ms
dense for one row and 0.34 with int4pack, so small float32 layers are dense. `benchmarks/int4_linear.py` measures
such a table on any machine.

Choices rest on what the machine can do, never on a stopwatch: the same machine gives the same bits every time.
Knows tensors, not modules, files or configurations.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from . import int8_product, packing

#: Group sizes that torch's int4 products take, largest first.
GROUP_SIZES = (256, 128, 64, 32)

#: From this many rows on, expanding the weights costs less than int4pack on the CPU.
PREFILL_ROWS = 64

#: Layers of up to this many weights are kept dense in float32 (8 MiB).
DENSE_WEIGHTS = 1 << 21

#: Outputs expanded at a time: 512 columns of a 5120-wide layer are 5 MiB in bfloat16.
PIECE = 512


@dataclass(frozen=True)
class Choice:
    """A product and why it was taken. `dtype` is what it computes in."""

    product: str
    reason: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Int4Weight:
    """One layer's words: qweight int32 [I * bits / 32, O], zeros uint8 [G, O], scales [G, O].

    Inputs stand in group order; `order` [I] tells where they come from (None: as they are). `g_idx` is set only where
    groups have different sizes and no order helps.
    """

    qweight: Tensor
    zeros: Tensor
    scales: Tensor
    order: Tensor | None = None
    g_idx: Tensor | None = None
    bits: int = 4

    @property
    def in_features(self) -> int:
        return self.qweight.shape[0] * (32 // self.bits)

    @property
    def out_features(self) -> int:
        return self.qweight.shape[1]

    @property
    def group_size(self) -> int | None:
        """Inputs that share a scale, None where groups differ in size."""
        return None if self.g_idx is not None else self.in_features // self.scales.shape[0]

    @classmethod
    def from_words(cls, qweight: Tensor, zeros: Tensor, scales: Tensor, g_idx: Tensor, bits: int = 4) -> Int4Weight:
        """Brings the inputs of an act-order layer into group order where that is possible."""
        try:
            order = packing.input_order(g_idx, scales.shape[0])
        except ValueError:
            return cls(qweight, zeros, scales, g_idx=g_idx.long(), bits=bits)
        if order is not None:
            qweight = packing.pack_rows(packing.unpack_rows(qweight, bits)[order], bits)
        return cls(qweight, zeros, scales, order=order, bits=bits)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """[O, I] with the inputs where the layer has them."""
        weight = _expand(self, slice(None), dtype)
        if self.order is not None:
            weight = torch.empty_like(weight).index_copy_(0, self.order, weight)
        return weight.T.contiguous()


class Product(Protocol):
    """What multiplies with an int4 weight."""

    def __call__(self, x: Tensor) -> Tensor:
        """[M, I] -> [M, O] in x's dtype, without bias."""
        ...

    def weight(self) -> Tensor:
        """The weights it multiplies with, [O, I]."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory it holds."""
        ...


def choose(
    device: torch.device,
    dtype: torch.dtype,
    in_features: int = 5120,
    out_features: int = 13_696,
    group_size: int | None = 128,
    bits: int = 4,
    sym: bool = True,
) -> Choice:
    """The product for a layer of this size in a model of `dtype` on `device`; the default size is the 14B's.

    `group_size` None: groups of different sizes.
    """
    # Half precision has no fast product on the CPU, and float32 holds its every value.
    exact = torch.float32 if device.type == "cpu" and dtype == torch.float16 else dtype
    if bits == 4:
        why_not = _why_no_int4pack(device, dtype, in_features, out_features, group_size)
    else:
        why_not = int8_product.why_not(device, dtype, in_features, group_size, sym)
    if why_not is None:
        return Choice(f"int{bits}pack", f"torch's int{bits} product on {device.type}, bfloat16 activations", dtype)
    small = in_features * out_features <= DENSE_WEIGHTS
    if small and device.type == "cpu" and exact == torch.float32:
        return Choice("dense", f"{why_not}; small enough to keep expanded", exact)
    return Choice("dequantize", why_not, exact)


def build(choice: Choice, weight: Int4Weight) -> Product:
    """The product that `choice` names, holding no more of `weight` than it needs."""
    if choice.product == "dense":
        return Dense(weight, choice.dtype)
    if choice.product == "dequantize":
        return Dequantize(weight, choice.dtype)
    if choice.product == "int8pack":
        return int8_product.Int8Pack(_signed(weight), weight.scales[0])
    if weight.qweight.device.type == "cuda":
        return Int4PackCuda(weight)
    return Int4PackCpu(weight)


class Expandable(Protocol):
    """Weights in whatever form."""

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """[O, I]"""
        ...


class Dense:
    """Expanded once."""

    def __init__(self, weight: Expandable, dtype: torch.dtype) -> None:
        self._weight = weight.dequantize(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self._weight.dtype), self._weight).to(x.dtype)

    def weight(self) -> Tensor:
        return self._weight

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes


class Dequantize:
    """Expanded at every call, a few outputs at a time."""

    def __init__(self, weight: Int4Weight, dtype: torch.dtype) -> None:
        scales = weight.scales.to(dtype)
        self._words = dataclasses.replace(weight, scales=scales)
        self._dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        ordered = _reorder(x, self._words.order).to(self._dtype)
        out = x.new_empty(x.shape[0], self._words.out_features)
        for piece in _pieces(self._words.out_features):
            out[:, piece] = ordered @ _expand(self._words, piece, self._dtype)
        return out

    def weight(self) -> Tensor:
        return self._words.dequantize(self._dtype)

    @property
    def nbytes(self) -> int:
        words = self._words
        return words.qweight.nbytes + words.zeros.nbytes + words.scales.nbytes


class Int4PackCpu:
    """torch's product on the CPU for few rows; for many, weights expanded out of the same storage."""

    def __init__(self, weight: Int4Weight) -> None:
        assert weight.group_size is not None
        self._group = _product_group(weight.group_size)
        self._order = weight.order
        self._scale_and_zero = _scale_and_zero(weight, self._group)
        self._zeros = weight.zeros.repeat_interleave(weight.group_size // self._group, dim=0)
        self._block = cpu_block()
        self._packed = _pack_cpu(weight.qweight, self._block)
        # Expanded pieces of a processor without bfloat16 products are multiplied in float32.
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self._expanded = torch.bfloat16 if native else torch.float32

    def __call__(self, x: Tensor) -> Tensor:
        x = _reorder(x, self._order)
        if x.shape[0] < PREFILL_ROWS or self._block is None:
            args = (self._packed, self._group, self._scale_and_zero)
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), *args)
        out = x.new_empty(x.shape[0], self._packed.shape[0])
        rows = x.to(self._expanded)
        for piece in _pieces(out.shape[1]):
            out[:, piece] = rows @ self._expand(piece)
        return out

    def weight(self) -> Tensor:
        if self._block is not None:
            whole = self._expand(slice(0, self._packed.shape[0]))
        else:
            eye = torch.eye(self._scale_and_zero.shape[0] * self._group, dtype=torch.bfloat16)
            args = (self._packed, self._group, self._scale_and_zero)
            whole = torch.ops.aten._weight_int4pack_mm_for_cpu(eye, *args)
        return _restore(whole, self._order)

    def _expand(self, piece: slice) -> Tensor:
        """Weights [I, outputs of `piece`] in the dtype that multiplies fastest."""
        assert self._block is not None
        half = self._block // 2
        blocks = slice(piece.start // self._block, piece.stop // self._block)
        stored = self._packed.view(-1, self._packed.shape[1] * 2, half)[blocks]
        out = torch.empty(stored.shape[1], piece.stop - piece.start, dtype=self._expanded)
        packing.unpack_block(stored, out)
        # Contiguous, because a strided factor makes torch multiply seven times slower.
        scales = self._scale_and_zero[:, piece, 0].to(self._expanded).contiguous()
        zeros = self._zeros[:, piece].to(self._expanded)
        out.view(scales.shape[0], self._group, -1).sub_(zeros[:, None]).mul_(scales[:, None])
        return out

    @property
    def nbytes(self) -> int:
        return self._packed.nbytes + self._scale_and_zero.nbytes + self._zeros.nbytes


class Int4PackCuda:
    """torch's product on CUDA for any number of rows."""

    def __init__(self, weight: Int4Weight) -> None:
        assert weight.group_size is not None
        self._group = _product_group(weight.group_size)
        self._order = weight.order
        self._in = weight.in_features
        self._scale_and_zero = _scale_and_zero(weight, self._group)
        pairs = packing.pack_pairs(packing.unpack_rows(weight.qweight))
        self._packed = torch.ops.aten._convert_weight_to_int4pack(pairs, _k_tiles(self._in))

    def __call__(self, x: Tensor) -> Tensor:
        x = _reorder(x, self._order).contiguous()
        return torch.ops.aten._weight_int4pack_mm(x, self._packed, self._group, self._scale_and_zero)

    def weight(self) -> Tensor:
        eye = torch.eye(self._in, dtype=torch.bfloat16, device=self._packed.device)
        whole = torch.ops.aten._weight_int4pack_mm(eye, self._packed, self._group, self._scale_and_zero)
        return _restore(whole, self._order)

    @property
    def nbytes(self) -> int:
        return self._packed.nbytes + self._scale_and_zero.nbytes


@functools.lru_cache(maxsize=1)
def cpu_block() -> int | None:
    """Outputs that this build of torch stores together (see packing), None if its layout is unknown."""
    codes = (torch.arange(64 * 32, dtype=torch.int32) * 7 % 16).to(torch.uint8).view(32, 64)
    codes[0] = torch.arange(64, dtype=torch.uint8) // 4
    return packing.find_block(_pack_cpu(packing.pack_rows(codes), None), codes)


@functools.lru_cache(maxsize=8)
def probe(device: torch.device) -> str | None:
    """Runs torch's int4 product once on `device`. None if its result is right, else what is wrong."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (256, 64), dtype=torch.uint8, generator=generator)
    zeros = torch.randint(0, 16, (2, 64), dtype=torch.uint8, generator=generator)
    scales = torch.rand((2, 64), generator=generator) + 0.5
    weight = Int4Weight(packing.pack_rows(codes).to(device), zeros.to(device), scales.to(device))
    x = torch.randn((3, 256), generator=generator).to(device, torch.bfloat16)
    try:
        product = Int4PackCuda(weight) if device.type == "cuda" else Int4PackCpu(weight)
        found = product(x).float()
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        return f"torch's int4 product fails here ({str(error).splitlines()[0][:80]})"
    expected = x.float() @ weight.dequantize(torch.float32).T
    off = ((found - expected).norm() / expected.norm()).item()
    return None if off < 0.02 else f"torch's int4 product is wrong here (relative error {off:.2g})"


def _why_no_int4pack(
    device: torch.device, dtype: torch.dtype, in_features: int, out_features: int, group_size: int | None
) -> str | None:
    """Why torch's int4 product cannot serve, None if it can."""
    if device.type not in ("cpu", "cuda"):
        return f"no int4 product is used on {device.type}"
    if dtype != torch.bfloat16:
        return f"torch's int4 product is not for {str(dtype).removeprefix('torch.')} on {device.type}"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "torch's int4 product needs compute capability 8.0"
    if group_size is None or not _product_group(group_size):
        return "torch's int4 product needs groups that are multiples of 32"
    if out_features % 64 or in_features % 32:
        return "torch's int4 product needs outputs in blocks of 64 and inputs of 32"
    return probe(device)


def _product_group(group_size: int) -> int:
    """The largest group of torch's product that divides `group_size`, 0 if none does."""
    return next((size for size in GROUP_SIZES if group_size % size == 0), 0)


def _k_tiles(in_features: int) -> int:
    """How many 16-wide tiles of inputs CUDA's layout interleaves."""
    return next(tiles for tiles in (8, 4, 2) if in_features % (16 * tiles) == 0)


def _scale_and_zero(weight: Int4Weight, group: int) -> Tensor:
    """[I / group, O, 2] bfloat16 for w = (code - 8) * scale + zero; long groups are repeated as several short ones."""
    scales = weight.scales.float()
    offsets = (8 - weight.zeros.float()) * scales
    pair = torch.stack((scales, offsets), dim=-1).to(torch.bfloat16)
    assert weight.group_size is not None
    return pair.repeat_interleave(weight.group_size // group, dim=0).contiguous()


def _pack_cpu(qweight: Tensor, block: int | None) -> Tensor:
    """int32 words [I/8, O] -> torch's CPU layout uint8 [O, I/2], a few outputs at a time.

    torch's own converter takes 0.4 s for the largest layer of the 14B; where its layout is known we write it.
    """
    packed = torch.empty((qweight.shape[1], qweight.shape[0] * 4), dtype=torch.uint8)
    for piece in _pieces(qweight.shape[1]):
        codes = packing.unpack_rows(qweight[:, piece])
        if block is None:
            packed[piece] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.T.int().contiguous(), 1)
        else:
            packed[piece] = packing.pack_block(codes, block).view(codes.shape[1], -1)
    return packed


def _expand(words: Int4Weight, piece: slice, dtype: torch.dtype) -> Tensor:
    """Weights [I, outputs of `piece`] in group order."""
    codes = packing.unpack_rows(words.qweight[:, piece], words.bits)
    return packing.dequantize(codes, words.scales[:, piece].to(dtype), words.zeros[:, piece], words.g_idx)


def _signed(weight: Int4Weight) -> Tensor:
    """Codes of 8 bits around their zero of 128 -> int8 [O, I], a few outputs at a time."""
    out = torch.empty((weight.out_features, weight.in_features), dtype=torch.int8, device=weight.qweight.device)
    for piece in _pieces(weight.out_features):
        out[piece] = (packing.unpack_rows(weight.qweight[:, piece], 8).short() - 128).to(torch.int8).T
    return out


def _pieces(outputs: int) -> list[slice]:
    return [slice(start, min(start + PIECE, outputs)) for start in range(0, outputs, PIECE)]


def _reorder(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else x.index_select(1, order)


def _restore(weight: Tensor, order: Tensor | None) -> Tensor:
    """Weights [I, O] in group order -> [O, I] as the layer has them."""
    if order is not None:
        weight = torch.empty_like(weight).index_copy_(0, order, weight)
    return weight.T.contiguous()
