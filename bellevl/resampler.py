"""The resampler: a fixed number of learned queries cross-attends the patches of a picture of any size.

Attribute names are the checkpoint's (`attn.in_proj_weight`: torch's MultiheadAttention layout, q | k | v blocks).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import VisionConfig
from .layers import resize_grid

EPS = 1e-6


def sincos_grid(dim: int, side: int) -> Tensor:
    """2-D sin-cos positions [side*side, dim]: first half of `dim` is the column, second the row, each [sin | cos]
    with frequencies 10000^(-i / (dim / 4)). The family stores this table in the checkpoint."""
    omega = 10_000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * omega
    line = torch.cat((angles.sin(), angles.cos()), dim=1)  # [side, dim / 2]
    column = line.repeat(side, 1)
    row = line.repeat_interleave(side, 0)
    return torch.cat((column, row), dim=1).float()


class CrossAttention(nn.Module):
    """Multi-head attention of queries over patches with one packed input projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query [1, Q, C], key and value [B, P, C] -> [B, Q, C]"""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (self._heads(F.linear(x, w, b)) for x, w, b in zip((query, key, value), weights, biases, strict=True))
        out = F.scaled_dot_product_attention(q.expand(k.shape[0], -1, -1, -1), k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, T, D]


class Resampler(nn.Module):
    """Patches [B, P, W] -> tokens [B, Q, C]. Positions enter queries and keys, never values; no residual."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, out, queries = config.width, config.output_dim, config.n_queries
        self.query = nn.Parameter(torch.zeros(queries, out))
        self.pos_embed = nn.Parameter(torch.zeros(queries, out), requires_grad=False)
        # the family leaves the projection out where the widths agree
        self.kv_proj = nn.Linear(width, out, bias=False) if width != out else nn.Identity()
        self.attn = CrossAttention(out, config.resampler_heads)
        self.ln_q = nn.LayerNorm(out, eps=EPS)
        self.ln_kv = nn.LayerNorm(out, eps=EPS)

    def forward(self, patches: Tensor) -> Tensor:
        """[B, P, W] -> [B, Q, C]"""
        kv = self.ln_kv(self.kv_proj(patches))
        query = self.ln_q(self.query) + self.pos_embed
        key = kv + resize_grid(self.pos_embed, math.isqrt(patches.shape[1]))
        return self.attn(query[None], key, kv)
