"""The KV cache of one conversation: preallocated, appended to, cut back to a prefix. Knows no model."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import ModelConfig


class KVCache:
    """Rotated keys and values of every block, [blocks, B, H, capacity, D].

    `alpha` is dynamic NTK's factor, fixed by the first prompt that enters: a value of this conversation, because the
    keys in here are rotated with it.
    """

    def __init__(
        self,
        config: ModelConfig,
        capacity: int,
        *,
        batch: int = 1,
        dtype: torch.dtype,
        device: str | torch.device,
    ) -> None:
        shape = (config.num_hidden_layers, batch, config.num_attention_heads, capacity, config.kv_channels)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)
        self.capacity = capacity
        self.length = 0
        self.alpha: int | None = None

    def append(self, block: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores k, v [B, H, T, D] of `block` behind the tokens so far; returns all of them [B, H, S, D].

        The length moves with `advance`, once every block has appended.
        """
        end = self.length + k.shape[2]
        assert end <= self.capacity, f"the cache holds {self.capacity} tokens, {end} are needed"
        self.keys[block, :, :, self.length : end] = k
        self.values[block, :, :, self.length : end] = v
        return self.keys[block, :, :, :end], self.values[block, :, :, :end]

    def advance(self, tokens: int) -> None:
        """`tokens` were appended in every block."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens; with none left alpha is free again."""
        assert 0 <= length <= self.length
        self.length = length
        if length == 0:
            self.alpha = None
