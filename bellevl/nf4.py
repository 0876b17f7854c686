"""NF4 codes: sixteen levels of a normal distribution, packed as bitsandbytes writes them.

A weight [O, I] is read row after row as one long row of numbers. Every `blocksize` of them share the largest absolute
value in the block, and each number is the nearest of sixteen levels between -1 and 1 times that value (QLoRA,
Dettmers et al., 2305.14314, section 3 and appendix E). What a layer's tensors are called, and what is written of them
in words, is in nf4_state.py. Knows no module, no device and no file.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .nf4_state import BLOCKSIZE, State, block_count, packed_bytes

#: Appendix E of the paper: the levels as it prints them.
LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)

#: Numbers that are quantized at a time, whole blocks of every size: some MiB of working copies.
PIECE = 1 << 20

#: Divisors below this are taken for it, so that a block of zeros divides by something.
LEAST = 1e-38


def quantize(weight: Tensor, blocksize: int = BLOCKSIZE) -> tuple[Tensor, Tensor]:
    """A float weight [O, I] -> packed uint8 [bytes, 1], absmax float32 [blocks]. Ties go to the lower level."""
    numbers = weight.reshape(-1)
    packed = torch.empty((packed_bytes(numbers.numel()), 1), dtype=torch.uint8, device=weight.device)
    absmax = torch.empty(block_count(numbers.numel(), blocksize), device=weight.device)
    for start in range(0, numbers.numel(), PIECE):
        end = start + PIECE
        codes, absmax[start // blocksize : end // blocksize] = _nearest(numbers[start:end].float(), blocksize)
        packed[start // 2 : end // 2, 0] = _pack(codes)
    return packed, absmax


def dequantize(packed: Tensor, absmax: Tensor, count: int, blocksize: int = BLOCKSIZE) -> Tensor:
    """packed uint8 [bytes, 1] and absmax float32 [blocks] -> the first `count` numbers, float32 [count]."""
    pairs = _pairs(packed.device)
    numbers = pairs.index_select(0, packed.reshape(-1).to(torch.int32)).view(torch.float32)[:count]
    whole = count // blocksize
    numbers[: whole * blocksize].view(whole, blocksize).mul_(absmax[:whole, None])
    if count % blocksize:
        numbers[whole * blocksize :].mul_(absmax[whole])
    return numbers


def nested_absmax(codes: Tensor, table: Tensor, scales: Tensor, state: State) -> Tensor:
    """Absolute maxima that are quantized themselves: uint8 [blocks] -> float32 [blocks]."""
    assert state.nested_blocksize is not None
    values = table.float()[codes.long()]
    return values * scales.float().repeat_interleave(state.nested_blocksize)[: len(codes)] + state.nested_offset


def levels() -> Tensor:
    """The sixteen levels, float32 [16]."""
    return torch.tensor(LEVELS, dtype=torch.float32)


def _nearest(numbers: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    """float32 [count] -> codes uint8 [count], absmax float32 [blocks]."""
    count, whole = numbers.numel(), numbers.numel() // blocksize
    blocks = numbers[: whole * blocksize].view(whole, blocksize)
    absmax = blocks.abs().amax(dim=1)
    # A multiplication by the reciprocal, as bitsandbytes does it: a division would round some ties the other way.
    scaled = (blocks * (1.0 / absmax.clamp(min=LEAST))[:, None]).view(-1)
    if count % blocksize:
        rest = numbers[whole * blocksize :]
        largest = rest.abs().max().clamp(min=LEAST)
        absmax, scaled = torch.cat((absmax, largest[None])), torch.cat((scaled, rest / largest))
    return torch.bucketize(scaled.clamp_(-1, 1), _bounds(numbers.device)).to(torch.uint8), absmax


def _pack(codes: Tensor) -> Tensor:
    """uint8 [count] -> uint8 [ceil(count / 2)]; half a byte that is left over holds the code of zero."""
    if codes.numel() % 2:
        codes = torch.cat((codes, codes.new_tensor([LEVELS.index(0.0)])))
    return (codes[::2] << 4) | codes[1::2]


@functools.lru_cache(maxsize=8)
def _bounds(device: torch.device) -> Tensor:
    """Halfway between neighbouring levels, float32 [15]."""
    table = levels()
    return ((table[:-1] + table[1:]) / 2).to(device)


@functools.lru_cache(maxsize=8)
def _pairs(device: torch.device) -> Tensor:
    """What each byte stands for: two float32 levels that lie side by side, looked up as one int64 [256]."""
    table, byte = levels(), torch.arange(256)
    return torch.stack((table[byte >> 4], table[byte & 15]), dim=1).view(torch.int64).view(-1).to(device)
