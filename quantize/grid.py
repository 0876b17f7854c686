"""Scales and zeros: the 16 points that a group of weights is rounded to.

Weights come as [inputs of the group, O]: a group of each output is a column. Knows no Hessian; how much an input
matters is a number per input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Codes run from 0 to 15.
TOP = 15

#: `search` tries the full range and these parts of it; going down to 0.4 changed the golden layers' errors by < 0.3%.
SHRINKS = tuple(1 - 0.025 * step for step in range(17))


class Grid(NamedTuple):
    """scale [O], rounded to float16 as it will be stored, and zero [O], a whole number; both float32."""

    scale: Tensor
    zero: Tensor


def span(w: Tensor, sym: bool, shrink: float = 1.0) -> Grid:
    """The grid whose ends are the group's extremes times `shrink`; zero is always a point of it.

    Symmetric: zero is 8. Asymmetric: zero is at least 1, since v1 files store zero - 1 in four unsigned bits and
    readers disagree about what -1 wraps to.
    """
    low, high = _range(w, sym)
    return _grid(low, high, sym, shrink)


def search(w: Tensor, importance: Tensor, sym: bool) -> Grid:
    """The grid of least squared error among shrunken ranges, each input's error weighted by `importance` [inputs]."""
    low, high = _range(w, sym)
    weight = importance.to(w.dtype)[:, None]
    best = _grid(low, high, sym, 1.0)
    least = _error(w, best, weight)
    for shrink in SHRINKS[1:]:
        grid = _grid(low, high, sym, shrink)
        error = _error(w, grid, weight)
        better = error < least
        least = torch.where(better, error, least)
        best = Grid(torch.where(better, grid.scale, best.scale), torch.where(better, grid.zero, best.zero))
    return best


def encode(w: Tensor, grid: Grid) -> Tensor:
    """Weights [.., O] -> the nearest codes, float [.., O]."""
    return (w / grid.scale).add_(grid.zero).round_().clamp_(0, TOP)


def decode(codes: Tensor, grid: Grid) -> Tensor:
    """Codes [.., O] -> weights, with the reader's arithmetic."""
    return (codes - grid.zero).mul_(grid.scale)


def _range(w: Tensor, sym: bool) -> tuple[Tensor, Tensor]:
    low, high = w.amin(0).clamp_(max=0), w.amax(0).clamp_(min=0)
    if sym:
        high = torch.maximum(high, -low)
        low = -high
    return low, high


def _grid(low: Tensor, high: Tensor, sym: bool, shrink: float) -> Grid:
    scale = ((high - low) * (shrink / TOP)).half().float()
    # A group of zeros, or of weights that float16 scales cannot reach: every code is then the zero point.
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    if sym:
        return Grid(scale, torch.full_like(scale, (TOP + 1) / 2))
    return Grid(scale, (-shrink * low / scale).round_().clamp_(1, TOP))


def _error(w: Tensor, grid: Grid, weight: Tensor) -> Tensor:
    """Weighted squared rounding error of each output [O]."""
    return decode(encode(w, grid), grid).sub_(w).square_().mul_(weight).sum(0)
