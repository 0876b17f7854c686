"""Parts that the language model is built from: RMSNorm, rotary embedding, dynamic NTK, log-n scaling, attention.

Shapes, in one alphabet used by every model file:
B batch · T new tokens · S all tokens so far (cache + new) · H heads · D head dim · C hidden size · V vocabulary
Q resampler queries · P patches · W vision width · N pictures

Knows no checkpoint and no configuration object.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Interrupted(Exception):
    """`stop` said so in the middle of a pass through the model."""


def check_stop(stop: Callable[[], bool] | None) -> None:
    """Raises Interrupted when `stop` says so. Asked between blocks: at 14B on a CPU that is every tenth of a second."""
    if stop is not None and stop():
        raise Interrupted


class RMSNorm(nn.Module):
    """y = cast(x / sqrt(mean(x^2) + eps)) * weight; normalised in float32, scaled in the input's dtype."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]"""
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + self.eps)
        return x32.to(x.dtype) * self.weight


@dataclass(frozen=True)
class Rotary:
    """Cosine and sine tables [B or 1, 1, T, D] in float32, and the log-n factor of each query [1, 1, T, 1] or None."""

    cos: Tensor
    sin: Tensor
    logn: Tensor | None


def ntk_alpha(tokens: int, seq_length: int) -> int:
    """Dynamic NTK's alpha for a prompt of `tokens`: 1 up to seq_length, then 3, 7, 15 with each doubling.

    max(2^ceil(log2(n/L) + 1) - 1, 1), in whole numbers so that powers of two are exact.
    """
    doublings = 0
    while seq_length << doublings < tokens:
        doublings += 1
    return 2 ** (doublings + 1) - 1


def rotary_tables(positions: Tensor, dim: int, base: float, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """cos and sin [..., 1, T, D] for `positions` [..., T]; base' = base * alpha^(d / (d - 2)), halves repeated."""
    scaled = base * alpha ** (dim / (dim - 2)) if dim > 2 else base
    exponent = torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device) / dim
    angles = positions.float()[..., None] * (1.0 / scaled**exponent)
    angles = torch.cat((angles, angles), dim=-1).unsqueeze(-3)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x * cos + [-x2, x1] * sin over the two halves of the head, in float32, cast back. [B, H, T, D]"""
    x32 = x.float()
    x1, x2 = x32.chunk(2, dim=-1)
    return (x32 * cos + torch.cat((-x2, x1), dim=-1) * sin).to(x.dtype)


def logn_factors(positions: Tensor, seq_length: int) -> Tensor:
    """ln p / ln L for queries at 1-based positions p > L, else 1. [T] -> [T] float32"""
    p = positions.float() + 1
    return torch.where(p > seq_length, p.log() / math.log(seq_length), torch.ones_like(p))


def causal_mask(new: int, past: int, device: torch.device, padding: Tensor | None = None) -> Tensor:
    """True where a query may look: [1 or B, 1, T, S]. `padding` [B, S] is 1 at real tokens.

    Every query may look at itself, so that the row of a padded token stays finite; nobody looks at its key.
    """
    queries = torch.arange(past, past + new, device=device)[:, None]
    keys = torch.arange(past + new, device=device)[None, :]
    mask = (keys <= queries)[None, None]
    if padding is not None:
        mask = mask & padding.bool()[:, None, None, :] | (keys == queries)[None, None]
    return mask


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, plain: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v, [B, H, T, D] and [B, H, S, D] -> [B, H, T, D].

    `plain` writes the product out on the CPU: with a backward pass the nano model's vision stage then ran at 129
    pictures a second instead of 84. Elsewhere the library's function, which it equals, is the fast one and keeps no
    [T, S] scores.
    """
    if not plain or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    if causal:
        mask = causal_mask(q.shape[-2], 0, q.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v


def resize_grid(grid: Tensor, side: int) -> Tensor:
    """A square grid of vectors [n*n, C] resized to [side*side, C]: bicubic in float32, as it is when it fits."""
    old = math.isqrt(grid.shape[0])
    if old == side:
        return grid
    image = grid.float().view(1, old, old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
    return image.permute(0, 2, 3, 1).reshape(side * side, -1).to(grid.dtype)
