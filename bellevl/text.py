"""The language model: attention, MLP, block, decoder. Attribute names are the checkpoint's.

Each linear of a block is made by a factory that knows its name, so that the same code holds float and int4 weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .cache import KVCache
from .config import ModelConfig
from .layers import RMSNorm, Rotary, apply_rotary, attend

#: (name, in_features, out_features, bias) -> a module that maps [..., in] to [..., out]
LinearFactory = Callable[[str, int, int, bool], nn.Module]


def float_linear(name: str, in_features: int, out_features: int, bias: bool) -> nn.Module:
    """The factory of unquantized layers."""
    return nn.Linear(in_features, out_features, bias=bias)


def _inside(linear: LinearFactory, prefix: str) -> LinearFactory:
    return lambda name, in_features, out_features, bias: linear(prefix + name, in_features, out_features, bias)


class Attention(nn.Module):
    """Multi-head attention with rotary positions; `c_attn` gives [q ; k ; v], each C wide."""

    def __init__(self, config: ModelConfig, linear: LinearFactory) -> None:
        super().__init__()
        C = config.hidden_size
        self.heads = config.num_attention_heads
        self.c_attn = linear("c_attn", C, 3 * C, True)
        self.c_proj = linear("c_proj", C, C, False)

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        block: int = 0,
    ) -> Tensor:
        """[B, T, C] -> [B, T, C]; `mask` True where a query may look, None: causal."""
        return self.c_proj(self.mix(x, rotary, mask, cache, block))

    def mix(
        self,
        x: Tensor,
        rotary: Rotary,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        block: int = 0,
    ) -> Tensor:
        """[B, T, C] -> [B, T, C]: everything before the output projection, which is what calibrates it."""
        return self.mix_projected(self.c_attn(x), rotary, mask, cache, block)

    def mix_projected(
        self,
        qkv: Tensor,
        rotary: Rotary,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        block: int = 0,
    ) -> Tensor:
        """What `c_attn` gave [B, T, 3C] -> [B, T, C]."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in qkv.chunk(3, dim=-1))
        q = apply_rotary(q, rotary.cos, rotary.sin)
        k = apply_rotary(k, rotary.cos, rotary.sin)
        if rotary.logn is not None:
            q = q * rotary.logn.to(q.dtype)
        if cache is not None:
            k, v = cache.append(block, k, v)
        causal = mask is None and q.shape[2] > 1
        assert not causal or q.shape[2] == k.shape[2], "several tokens behind a cache need a mask"
        out = attend(q, k, v, mask, causal, plain=self.training)
        return out.transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """SwiGLU: c_proj(w1(x) * silu(w2(x))). w2 is the gate, w1 the up projection."""

    def __init__(self, config: ModelConfig, linear: LinearFactory) -> None:
        super().__init__()
        self.w1 = linear("w1", config.hidden_size, config.mlp_width, False)
        self.w2 = linear("w2", config.hidden_size, config.mlp_width, False)
        self.c_proj = linear("c_proj", config.mlp_width, config.hidden_size, False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]"""
        return self.c_proj(self.gate(x))

    def gate(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, F]: everything before the output projection."""
        return self.w1(x) * F.silu(self.w2(x))


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ModelConfig, index: int = 0, linear: LinearFactory = float_linear) -> None:
        super().__init__()
        self.index = index
        self.ln_1 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = Attention(config, _inside(linear, f"transformer.h.{index}.attn."))
        self.ln_2 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = MLP(config, _inside(linear, f"transformer.h.{index}.mlp."))

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """[B, T, C] -> [B, T, C]"""
        x = x + self.attn(self.ln_1(x), rotary, mask, cache, self.index)
        return x + self.mlp(self.ln_2(x))
