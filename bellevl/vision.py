"""The vision encoder: patches, ViT blocks, then the resampler. Pixels in, features of the language model's width out.

Attribute names are the checkpoint's. Knows no text.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import VisionConfig
from .layers import attend, check_stop, resize_grid
from .resampler import Resampler

EPS = 1e-6


class VisionAttention(nn.Module):
    """Self-attention over patches. `in_proj` holds, head by head, q, k and v (interleaved per head)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, W] -> [B, P, W]"""
        B, P, W = x.shape
        qkv = self.in_proj(x).view(B, P, self.heads, 3, W // self.heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)  # each [B, H, P, D]
        out = attend(q, k, v, None, causal=False, plain=self.training)
        return self.out_proj(out.transpose(1, 2).reshape(B, P, W))


class VisionMLP(nn.Module):
    """Two linears around an exact (erf) GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, inner)
        self.c_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, W] -> [B, P, W]"""
        return self.c_proj(F.gelu(self.c_fc(x)))


class VisionBlock(nn.Module):
    """One pre-norm transformer layer of the vision encoder."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, eps=EPS)
        self.attn = VisionAttention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width, eps=EPS)
        self.mlp = VisionMLP(config.width, config.mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, W] -> [B, P, W]"""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class VisionBlocks(nn.Module):
    """The stack; a module of its own because the checkpoint calls it `transformer.resblocks`."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(VisionBlock(config) for _ in range(config.layers))

    def forward(self, x: Tensor, stop: Callable[[], bool] | None = None) -> Tensor:
        """[B, P, W] -> [B, P, W]"""
        for block in self.resblocks:
            check_stop(stop)
            x = block(x)
        return x


class VisionTransformer(nn.Module):
    """Pixels [B, 3, S, S] -> features [B, Q, C]."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        width, out = config.width, config.output_dim
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        # 16 x 16 in every model of the family, whatever image_size is: resized to the grid of the picture at hand
        self.positional_embedding = nn.Parameter(torch.zeros(256, width))
        self.ln_pre = nn.LayerNorm(width, eps=EPS)
        self.transformer = VisionBlocks(config)
        self.attn_pool = Resampler(config)
        self.ln_post = nn.LayerNorm(out, eps=EPS)
        self.proj = nn.Parameter(torch.zeros(out, out))

    def embed_patches(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, P, W]: what enters block 0."""
        x = self.conv1(pixels)
        side = x.shape[-1]
        x = x.flatten(2).transpose(1, 2)
        return self.ln_pre(x + resize_grid(self.positional_embedding, side))

    def encode_patches(self, pixels: Tensor, stop: Callable[[], bool] | None = None) -> Tensor:
        """[B, 3, S, S] -> [B, P, W]: what leaves the last block."""
        return self.transformer(self.embed_patches(pixels), stop)

    def pool_patches(self, x: Tensor) -> Tensor:
        """[B, P, W] -> [B, Q, C]: what becomes of what leaves the last block."""
        return self.ln_post(self.attn_pool(x)) @ self.proj

    def forward(self, pixels: Tensor, stop: Callable[[], bool] | None = None) -> Tensor:
        """[B, 3, S, S] -> [B, Q, C]. Raises Interrupted when `stop()` is true between two blocks."""
        return self.pool_patches(self.encode_patches(pixels, stop))
