"""Scales and zeros: the points that a group of weights is rounded to, 16 with 4 bits.

Weights come as [inputs of the group, O]: a group of each output is a column. Knows no Hessian; how much an input
matters is a number per input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: The largest code of 4 bits; codes run from 0 to `top`.
TOP = 15

#: `search` starts from the full range and from these parts of it.
SHRINKS = (1.0, 0.94, 0.88, 0.82, 0.76, 0.7, 0.62)

#: Columns that `search` works on at a time: 128 inputs of so many fit a core's second cache.
COLUMNS = 1024


class Grid(NamedTuple):
    """scale [O], rounded to float16 as it will be stored, and zero [O], a whole number; both float32."""

    scale: Tensor
    zero: Tensor


def span(w: Tensor, sym: bool, top: int = TOP) -> Grid:
    """The grid whose ends are the group's extremes; zero is always a point of it.

    Symmetric: zero is (top + 1) / 2. Asymmetric: zero is at least 1, since v1 files store zero - 1 in unsigned bits
    and readers disagree about what -1 wraps to.
    """
    low, high = _range(w, sym)
    return _grid(low, high, sym, 1.0, top)


def search(w: Tensor, importance: Tensor, sym: bool, top: int = TOP) -> Grid:
    """The grid of least squared error, each input's error weighted by `importance` [inputs].

    From each shrunken range the codes are taken, and for these codes the scale of least error: the weighted products
    of weights and codes over those of codes and codes. The best of all is returned, never one worse than `span`.
    """
    found = [_search(part, importance.to(w.dtype), sym, top) for part in w.split(COLUMNS, dim=1)]
    return Grid(torch.cat([grid.scale for grid in found]), torch.cat([grid.zero for grid in found]))


def _search(w: Tensor, importance: Tensor, sym: bool, top: int) -> Grid:
    """The same for few columns. The error is E - 2 s a + s^2 b; E, that of zeros, is the same for all."""
    low, high = _range(w, sym)
    weighted = w * importance[:, None]
    codes, work = torch.empty_like(w), torch.empty_like(w)
    best = None
    for shrink in SHRINKS:
        grid = _grid(low, high, sym, shrink, top)
        # Around zero: code - zero, from -zero to top - zero.
        torch.mul(w, grid.scale.reciprocal(), out=codes).round_()
        if sym:
            codes.clamp_(-(top + 1) / 2, (top - 1) / 2)
        else:
            codes.clamp_(-grid.zero, top - grid.zero)
        a = torch.mul(codes, weighted, out=work).sum(0)
        b = importance @ torch.mul(codes, codes, out=work)
        fitted = torch.where(b > 0, (a / b).half().float(), grid.scale)
        fitted = torch.where((fitted > 0) & fitted.isfinite(), fitted, grid.scale)
        for scale in (grid.scale, fitted) if best is None else (fitted,):
            error = scale * (scale * b - 2 * a)
            best = _better(best, (error, scale, grid.zero))
    assert best is not None
    return Grid(best[1], best[2])


def _better(best: tuple[Tensor, ...] | None, new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Column by column the one of least error: (error, scale, zero)."""
    if best is None:
        return new
    better = new[0] < best[0]
    return tuple(torch.where(better, mine, theirs) for mine, theirs in zip(new, best, strict=True))


def encode(w: Tensor, grid: Grid, top: int = TOP) -> Tensor:
    """Weights [.., O] -> the nearest codes, float [.., O]."""
    return (w / grid.scale).add_(grid.zero).round_().clamp_(0, top)


def decode(codes: Tensor, grid: Grid) -> Tensor:
    """Codes [.., O] -> weights, with the reader's arithmetic."""
    return (codes - grid.zero).mul_(grid.scale)


def _range(w: Tensor, sym: bool) -> tuple[Tensor, Tensor]:
    low, high = w.amin(0).clamp_(max=0), w.amax(0).clamp_(min=0)
    if sym:
        high = torch.maximum(high, -low)
        low = -high
    return low, high


def _grid(low: Tensor, high: Tensor, sym: bool, shrink: float, top: int) -> Grid:
    scale = ((high - low) * (shrink / top)).half().float()
    # A group of zeros, or of weights that float16 scales cannot reach: every code is then the zero point.
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    if sym:
        return Grid(scale, torch.full_like(scale, (top + 1) / 2))
    return Grid(scale, (-shrink * low / scale).round_().clamp_(1, top))
