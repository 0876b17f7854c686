"""BelleVL: vision encoder and language model behind the checkpoint's own names.

`encode_images` turns pixels into features, `forward` turns token ids (and features in their slots) into logits.
Knows no file, no tokenizer and no sampling.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from .cache import KVCache
from .config import GenerationConfig, ModelConfig, QuantizationConfig
from .embedding import MappedEmbedding
from .embedding import embedding as embedding
from .layers import Interrupted as Interrupted
from .layers import RMSNorm, Rotary, causal_mask, check_stop, logn_factors, ntk_alpha, rotary_tables
from .quantization import HEAD
from .text import Block, LinearFactory, float_linear
from .vision import VisionTransformer


class Transformer(nn.Module):
    """Embedding, blocks, last norm and, where there is one, the vision encoder."""

    def __init__(self, config: ModelConfig, linear: LinearFactory) -> None:
        super().__init__()
        self.wte: nn.Embedding | MappedEmbedding = embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList(Block(config, i, linear) for i in range(config.num_hidden_layers))
        self.ln_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        if config.visual is not None:
            self.visual = VisionTransformer(config.visual)


class BelleVL(nn.Module):
    """The whole model; without `config.visual` it is a text-only Qwen."""

    def __init__(self, config: ModelConfig, quantization: QuantizationConfig | None = None) -> None:
        super().__init__()
        self.config = config
        self.quantization = quantization
        #: the checkpoint's folder and its defaults for sampling; load_model fills them in
        self.folder = Path("memory")
        self.generation = GenerationConfig()
        #: where the vision encoder is and what it computes in, if not with the language model; load_model fills it in
        self.vision_place: tuple[torch.device, torch.dtype] | None = None
        linear = linear_factory(quantization)
        self.transformer = Transformer(config, linear)
        self.lm_head = linear(HEAD, config.hidden_size, config.vocab_size, False)

    @property
    def dtype(self) -> torch.dtype:
        table = self.transformer.wte
        return table.dtype if isinstance(table, MappedEmbedding) else table.weight.dtype

    @property
    def device(self) -> torch.device:
        table = self.transformer.wte
        return table.device if isinstance(table, MappedEmbedding) else table.weight.device

    def encode_images(self, pixels: Tensor, stop: Callable[[], bool] | None = None) -> Tensor:
        """Preprocessed pictures [N, 3, S, S] -> features [N, Q, C], where the language model is.

        Raises Interrupted when `stop()` is true.
        """
        device, dtype = self.vision_place or (self.device, self.dtype)
        features = self.transformer.visual(pixels.to(device, dtype), stop)
        return features if self.vision_place is None else features.to(self.device, self.dtype)

    def forward(
        self,
        input_ids: Tensor,
        image_features: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        cache: KVCache | None = None,
        alpha: int | None = None,
    ) -> Tensor:
        """Token ids [B, T] -> logits [B, T, V].

        `image_features` [N, Q, C] replace, picture by picture in reading order, the slots between `image_start_id`
        and `image_start_id` + 1. `attention_mask` [B, S] is 0 at padding. `cache` holds the tokens before these and
        takes these in; `alpha` is dynamic NTK's factor when the prompt is longer than these tokens.
        Raises ValueError when slots and features do not fit each other.
        """
        x = self.embed(input_ids, image_features)
        return self.lm_head(self.decode_hidden(x, attention_mask=attention_mask, cache=cache, alpha=alpha))

    def embed(self, input_ids: Tensor, image_features: Tensor | None = None) -> Tensor:
        """Token ids [B, T] -> what enters block 0 [B, T, C]: embeddings, with picture features in their slots."""
        x = self.transformer.wte(input_ids)
        starts = self._image_starts(input_ids)
        count = 0 if image_features is None else image_features.shape[0]
        if len(starts) != count:
            raise ValueError(f"{len(starts)} picture slots in the ids, features of {count} pictures")
        if image_features is None or count == 0:
            return x
        return self._fill_slots(x, input_ids, starts, image_features.to(x.dtype))

    def decode_hidden(
        self,
        x: Tensor,
        *,
        attention_mask: Tensor | None = None,
        cache: KVCache | None = None,
        alpha: int | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        """Embeddings [B, T, C] -> hidden states after ln_f [B, T, C].

        `positions` [B, T] and `mask` [B, 1, T, S] override the plain order, for sequences packed into one row.
        Raises Interrupted when `stop()` is true between two blocks; the cache is then as it was.
        """
        past = cache.length if cache is not None else 0
        new = x.shape[1]
        if mask is None and (attention_mask is not None or (past and new > 1)):
            mask = causal_mask(new, past, x.device, attention_mask)
        furthest = None
        if positions is None:
            positions, furthest = torch.arange(past, past + new, device=x.device), past + new - 1
        rotary = self.rotary(positions, self._alpha(cache, past + new, alpha), furthest)
        for block in self.transformer.h:
            check_stop(stop)
            x = self.run_block(block, x, rotary, mask, cache)
        if cache is not None:
            cache.advance(new)
        return self.transformer.ln_f(x)

    def run_block(
        self, block: nn.Module, x: Tensor, rotary: Rotary, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """One block, [B, T, C] -> [B, T, C]; a place for a subclass to record or to recompute."""
        return block(x, rotary, mask, cache)

    def rotary(self, positions: Tensor, alpha: int = 1, furthest: int | None = None) -> Rotary:
        """Tables for tokens at `positions` [T] or [B, T]; `furthest` is the largest, if the caller knows it."""
        config = self.config
        cos, sin = rotary_tables(positions, config.kv_channels, config.rotary_emb_base, alpha)
        if self.training or not config.use_logn_attn:
            return Rotary(cos, sin, None)
        if (int(positions.max()) if furthest is None else furthest) < config.seq_length:
            return Rotary(cos, sin, None)
        return Rotary(cos, sin, logn_factors(positions, config.seq_length)[..., None, :, None])

    def _alpha(self, cache: KVCache | None, tokens: int, asked: int | None) -> int:
        """Dynamic NTK's factor: the conversation's if it has one, else what the whole prompt asks for."""
        if self.training or not self.config.use_dynamic_ntk:
            return 1
        if cache is not None and cache.alpha is not None:
            return cache.alpha
        alpha = asked if asked is not None else ntk_alpha(tokens, self.config.seq_length)
        if cache is not None:
            cache.alpha = alpha
        return alpha

    def _image_starts(self, input_ids: Tensor) -> list[tuple[int, int]]:
        """(row, column) of every image start, in reading order."""
        if self.config.visual is None:
            return []
        found = (input_ids == self.config.visual.image_start_id).nonzero()
        return [(int(row), int(column)) for row, column in found]

    def _fill_slots(self, x: Tensor, input_ids: Tensor, starts: list[tuple[int, int]], features: Tensor) -> Tensor:
        assert self.config.visual is not None
        slots = features.shape[1]
        rows: list[int] = []
        columns: list[int] = []
        for row, column in starts:
            end = column + 1 + slots
            if end >= input_ids.shape[1] or int(input_ids[row, end]) != self.config.visual.image_end_id:
                raise ValueError(f"the picture slot at {column} of row {row} is not {slots} tokens long")
            rows += [row] * slots
            columns += range(column + 1, end)
        index = (torch.tensor(rows, device=x.device), torch.tensor(columns, device=x.device))
        return x.index_put(index, features.flatten(0, 1))


def linear_factory(quantization: QuantizationConfig | None) -> LinearFactory:
    """How the linears of blocks and the head are made: float, int4 words or NF4 codes."""
    if quantization is None:
        return float_linear
    return functools.partial(_packed_linear, quantization)


def _packed_linear(
    quantization: QuantizationConfig, name: str, in_features: int, out_features: int, bias: bool
) -> nn.Module:
    stored = quantization.for_layer(name)
    if stored is None:
        return float_linear(name, in_features, out_features, bias)
    if stored.method == "nf4":
        from .nf4_linear import Nf4Linear

        return Nf4Linear(in_features, out_features, bias, stored.double_quant)
    from .qlinear import Int4Linear

    return Int4Linear(in_features, out_features, stored, bias)
