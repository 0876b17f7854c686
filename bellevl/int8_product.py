"""torch's product with weights of one byte: w[o, i] = scale[o] * q[o, i], q from -128 to 127.

It reads half the bytes of bfloat16 weights, and takes as much less time where memory sets the pace: one row of
5120 x 38016 in 9.6 ms, F.linear in bfloat16 18.1 (two cores of a Zen 4, torch 2.13, beside other work). Scales are
applied here, in float32: torch's own product wants them in bfloat16, which would move a whole output by up to 0.2 %.
Knows tensors, no words of a checkpoint and no module.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

#: From this many rows on, expanding the weights costs less on the CPU.
PREFILL_ROWS = 64

#: Outputs expanded at a time.
PIECE = 512


class Int8Pack:
    """q int8 [O, I], scales [O] -> x [M, I] bfloat16 to [M, O] bfloat16."""

    def __init__(self, q: Tensor, scales: Tensor) -> None:
        self._q = q.contiguous()
        self._scales = scales.float().contiguous()
        self._ones = torch.ones_like(self._scales, dtype=torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[0] < PREFILL_ROWS or x.device.type != "cpu":
            out = torch.ops.aten._weight_int8pack_mm(x.contiguous(), self._q, self._ones)
            return (out * self._scales).to(x.dtype)
        out = x.new_empty(x.shape[0], self._q.shape[0])
        for start in range(0, out.shape[1], PIECE):
            piece = slice(start, start + PIECE)
            out[:, piece] = (x @ self._q[piece].to(x.dtype).T) * self._scales[piece]
        return out

    def weight(self) -> Tensor:
        """[O, I] in float32, exactly what it multiplies with."""
        return self._q * self._scales[:, None]

    @property
    def nbytes(self) -> int:
        return self._q.nbytes + self._scales.nbytes + self._ones.nbytes


def why_not(
    device: torch.device, dtype: torch.dtype, in_features: int, group_size: int | None, sym: bool
) -> str | None:
    """Why this product cannot serve a layer, None if it can."""
    if device.type not in ("cpu", "cuda"):
        return f"no int8 product is used on {device.type}"
    if dtype != torch.bfloat16:
        return f"torch's int8 product is not for {str(dtype).removeprefix('torch.')} on {device.type}"
    if group_size != in_features or not sym:
        return "torch's int8 product needs one symmetric scale an output"
    if in_features % 32:  # it reads beyond the end of shorter rows
        return "torch's int8 product needs inputs in blocks of 32"
    return probe(device)


@functools.lru_cache(maxsize=8)
def probe(device: torch.device) -> str | None:
    """Runs torch's int8 product once on `device`. None if its result is right, else what is wrong."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-128, 128, (64, 256), dtype=torch.int8, generator=generator)
    scales = torch.rand(64, generator=generator) + 0.5
    x = torch.randn((3, 256), generator=generator).bfloat16()
    expected = x.float() @ (q * scales[:, None]).T
    try:
        found = Int8Pack(q.to(device), scales.to(device))(x.to(device)).float().cpu()
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        return f"torch's int8 product fails here ({str(error).splitlines()[0][:80]})"
    off = ((found - expected).norm() / expected.norm()).item()
    return None if off < 0.02 else f"torch's int8 product is wrong here (relative error {off:.2g})"
