"""The KV cache of one conversation: preallocated, appended to, cut back to a prefix. Knows no model.

Two forms: as the model computes, and rounded to int8 in half the memory. `new_cache` makes either; a block sees no
difference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .config import ModelConfig


class KVCache:
    """Rotated keys and values of every block: `kept` [blocks, 2, B, H, capacity, D].

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
        shape = (config.num_hidden_layers, 2, batch, config.num_attention_heads, capacity, config.kv_channels)
        self.kept = torch.empty(shape, dtype=dtype, device=device)
        self.capacity = capacity
        self.length = 0
        self.alpha: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept."""
        return self.kept.nbytes

    def append(self, block: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores k, v [B, H, T, D] of `block` behind the tokens so far; returns all of them [B, H, S, D].

        What is returned holds until the next block appends. The length moves with `advance`, once every block has.
        """
        end = self._end(k)
        self.kept[block, 0, :, :, self.length : end] = k
        self.kept[block, 1, :, :, self.length : end] = v
        return self.kept[block, 0, :, :, :end], self.kept[block, 1, :, :, :end]

    def _end(self, k: Tensor) -> int:
        """Where the tokens of `k` will end."""
        end = self.length + k.shape[2]
        assert end <= self.capacity, f"the cache holds {self.capacity} tokens, {end} are needed"
        return end

    def advance(self, tokens: int) -> None:
        """`tokens` were appended in every block."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens; with none left alpha is free again."""
        assert 0 <= length <= self.length
        self.length = length
        if length == 0:
            self.alpha = None


class Int8KVCache(KVCache):
    """A byte a number, and one scale for each token's key, and for its value, in each head.

    A vector x is kept as round(x / s) with s = max |x| / 127, in the dtype that is computed in. Attention reads rounded
    numbers even of the tokens that have just come, so an answer does not depend on how its prompt was cut. One block at
    a time is expanded, into room that all blocks share.
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
        super().__init__(config, capacity, batch=batch, dtype=torch.int8, device=device)
        self.scales = torch.empty((*self.kept.shape[:-1], 1), dtype=dtype, device=device)
        self.expanded = torch.empty(self.kept.shape[1:], dtype=dtype, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept, the shared room too."""
        return self.kept.nbytes + self.scales.nbytes + self.expanded.nbytes

    def append(self, block: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores k, v [B, H, T, D] of `block` behind the tokens so far; returns all of them, as rounded, [B, H, S, D].

        What is returned holds until the next block appends.
        """
        end = self._end(k)
        codes, scales = self.kept[block], self.scales[block]
        new = (..., slice(self.length, end), slice(None))
        codes[new], scales[new] = quantize_vectors(torch.stack((k, v)), scales.dtype)
        room = self.expanded[..., :end, :].copy_(codes[..., :end, :]).mul_(scales[..., :end, :])
        return room[0], room[1]


#: What a cache may be called -> what it is.
FORMS: dict[str, type[KVCache]] = {"float": KVCache, "int8": Int8KVCache}


def new_cache(
    form: str, config: ModelConfig, capacity: int, *, batch: int = 1, dtype: torch.dtype, device: str | torch.device
) -> KVCache:
    """An empty cache of one of config's KV_FORMS."""
    return FORMS[form](config, capacity, batch=batch, dtype=dtype, device=device)


def quantize_vectors(x: Tensor, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x [..., D] -> codes int8 [..., D] and scales [..., 1], so that codes * scales is x to half a scale.

    Symmetric: the largest number of a vector becomes 127 or -127. The scale is rounded first, so that the codes make
    up for it.
    """
    x = x.detach().float()
    limits = torch.finfo(scale_dtype)
    least = max(limits.tiny * limits.eps, 1e-30)  # above nothing, in float16 too
    scales = (x.abs().amax(-1, keepdim=True) / 127).clamp(least, limits.max).to(scale_dtype)
    codes = (x / scales.float()).round_().clamp_(-127, 127).to(torch.int8)
    return codes, scales
