"""Int4 words: the only file that knows bits.

A quantized layer maps I inputs to O outputs and has G groups of inputs that share a scale. On disk (GPTQ layout):

    qweight int32 [I/8, O]   eight consecutive inputs a word, the first in the lowest four bits
    qzeros  int32 [G, O/8]   eight consecutive outputs a word; format "gptq" (v1) stores zero - 1, "gptq_v2" zero
    scales  float [G, O]
    g_idx   int32 [I]        the group of each input

    W[o, i] = scales[g_idx[i], o] * (code[i, o] - zero[g_idx[i], o])

In memory codes and zeros are uint8 [I, O] and [G, O]. Knows no module, no device and no choice of product.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Columns that are packed at a time: a head has 152,064, and its codes as int32 would be 3 GB.
COLUMNS = 16_384


def unpack_rows(words: Tensor, bits: int = 4) -> Tensor:
    """int32 [R, C] -> uint8 [R * 32 / bits, C]: the values of a word follow each other down the rows."""
    per_word, mask = 32 // bits, 2**bits - 1
    rows, columns = words.shape
    out = torch.empty((rows, per_word, columns), dtype=torch.uint8, device=words.device)
    for i in range(per_word):
        # The mask comes after the shift: int32 is signed and shifts its sign in.
        out[:, i] = (words >> (bits * i)) & mask
    return out.view(rows * per_word, columns)


def pack_rows(codes: Tensor, bits: int = 4) -> Tensor:
    """uint8 [R * 32 / bits, C] -> int32 [R, C], the inverse of `unpack_rows`."""
    per_word = 32 // bits
    values = codes.unflatten(0, (-1, per_word))
    words = torch.zeros((values.shape[0], codes.shape[1]), dtype=torch.int32, device=codes.device)
    for start in range(0, codes.shape[1], COLUMNS):
        part = words[:, start : start + COLUMNS]
        for i in range(per_word):
            part |= values[:, i, start : start + COLUMNS].to(torch.int32) << (bits * i)
    return words


def unpack_zeros(qzeros: Tensor, zero_offset: int, bits: int = 4) -> Tensor:
    """int32 [G, O/8] -> uint8 [G, O]. `zero_offset` is 1 for v1, 0 for v2.

    A stored 15 in v1 wraps to zero 0, as in the tool that defined the format.
    """
    stored = unpack_rows(qzeros.T.contiguous(), bits).T
    return ((stored + zero_offset) & (2**bits - 1)).contiguous()


def pack_zeros(zeros: Tensor, zero_offset: int, bits: int = 4) -> Tensor:
    """uint8 [G, O] -> int32 [G, O/8], the inverse of `unpack_zeros`."""
    stored = (zeros.to(torch.int32) - zero_offset) & (2**bits - 1)
    return pack_rows(stored.to(torch.uint8).T, bits).T.contiguous()


def keeps_zeros(qweight: Tensor, qzeros: Tensor, sym: bool, bits: int = 4) -> bool:
    """Whether words [I/8, O], [G, O/8] that call themselves v1 have their zeros stored as v2 has them.

    A symmetric zero is 8 and nothing else. Otherwise: weights lie around 0, codes therefore around their zeros; read
    in the wrong version all of them lie a whole step beside it.
    """
    if sym:
        return bool((unpack_rows(qzeros, bits) == 2 ** (bits - 1)).all())
    codes = unpack_rows(qweight, bits).float().mean().item()
    v1, v2 = (abs(codes - unpack_zeros(qzeros, offset, bits).float().mean().item()) for offset in (1, 0))
    return v1 > 0.75 and v2 < 0.25


def plain_groups(in_features: int, group_size: int) -> Tensor:
    """g_idx int32 [I] without act order: input i belongs to group i // group_size (-1: one group)."""
    size = in_features if group_size == -1 else group_size
    return torch.arange(in_features, dtype=torch.int32) // size


def group_count(in_features: int, group_size: int) -> int:
    """G of a layer."""
    return 1 if group_size == -1 else -(-in_features // group_size)


def input_order(g_idx: Tensor, groups: int) -> Tensor | None:
    """The order of inputs [I] (int64) that puts groups one after the other, or None if they are in order already.

    Raises ValueError when the groups are not all of one size: then no order makes them blocks.
    """
    if not bool((torch.bincount(g_idx, minlength=groups) * groups == g_idx.numel()).all()):
        raise ValueError("groups of different sizes")
    if bool((g_idx[1:] >= g_idx[:-1]).all()):
        return None
    return g_idx.argsort(stable=True)


def dequantize(codes: Tensor, scales: Tensor, zeros: Tensor, g_idx: Tensor | None = None) -> Tensor:
    """Codes [I, O], scales and zeros [G, O] -> weights [I, O] in the dtype of `scales`.

    `g_idx` None: groups are consecutive and of equal size. code - zero is exact in every float type, so each weight
    is rounded once.
    """
    weight = codes.to(scales.dtype)
    if g_idx is not None:
        return weight.sub_(zeros.to(scales.dtype)[g_idx]).mul_(scales[g_idx])
    grouped = weight.view(scales.shape[0], -1, weight.shape[1])
    grouped.sub_(zeros.to(scales.dtype)[:, None]).mul_(scales[:, None])
    return weight


def pack_pairs(codes: Tensor) -> Tensor:
    """uint8 [I, O] -> uint8 [O, I/2] as torch's CUDA converter takes it: the even input in the high four bits."""
    return ((codes[0::2] << 4) | codes[1::2]).T.contiguous()


# --- the layout of torch's int4 product on the CPU -----------------------------------------------------------------
#
# `_convert_weight_to_int4pack_for_cpu` stores outputs in blocks of 64 (AVX-512), 32 (AVX2) or 2 (elsewhere). In a
# block, inputs follow each other; each takes block / 2 bytes, the first half of the block's outputs in the low four
# bits, the second half in the high ones. torch does not promise it: `find_block` asks the running build.


def pack_block(codes: Tensor, block: int) -> Tensor:
    """uint8 [I, O] -> uint8 [O / block, I, block / 2]."""
    low, high = codes.unflatten(1, (-1, 2, block // 2)).unbind(2)
    return (low | (high << 4)).transpose(0, 1).contiguous()


def unpack_block(packed: Tensor, out: Tensor) -> Tensor:
    """uint8 [N, I, block / 2] -> `out` [I, N * block], of any dtype, filled with the codes."""
    target = out.unflatten(1, (packed.shape[0], 2, packed.shape[2]))
    source = packed.transpose(0, 1)
    target[:, :, 0] = source & 15
    target[:, :, 1] = source >> 4
    return out


def find_block(packed: Tensor, codes: Tensor) -> int | None:
    """The block that turns `codes` [I, O] into torch's own `packed`, None if the layout is none we know."""
    for block in (64, 32, 16, 2):
        if codes.shape[1] % block == 0 and torch.equal(pack_block(codes, block).flatten(), packed.flatten()):
            return block
    return None
