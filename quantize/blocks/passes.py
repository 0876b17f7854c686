"""The calibration set on its way through a block. Of it only the residual stream is kept, in files.

Knows no weight's form and nothing of how one is solved.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bellevl.config import ModelConfig
from bellevl.layers import Rotary, ntk_alpha
from bellevl.model import BelleVL
from bellevl.text import Block

from ..storage.activations import CPU, Activations
from ..storage.layout import STAGES

#: Tokens that go through a layer at a time: so many that reading its weights costs nothing beside the products.
TOKENS = 2048

#: Numbers that the widest activations of a piece have at most, if one sample does not have more: 64 MB in float32.
NUMBERS = 1 << 24


class RotaryTables:
    """Rotary tables of a model, by sequence length, on `device`."""

    def __init__(self, config: ModelConfig, device: torch.device = CPU) -> None:
        self._config, self._device = config, device
        with torch.device("meta"):
            self._model = BelleVL(config).eval()
        self._get = functools.lru_cache(maxsize=64)(self._make)

    def __call__(self, length: int) -> Rotary:
        """For positions 0 .. length - 1."""
        return self._get(length)

    def _make(self, length: int) -> Rotary:
        alpha = ntk_alpha(length, self._config.seq_length) if self._config.use_dynamic_ntk else 1
        return self._model.rotary(torch.arange(length, device=self._device), alpha)


class Streams(NamedTuple):
    """Files of activations: the residual stream that enters a block (kept until the block is done), what is between
    its stages, and the gated activations of its MLP (None: computed twice, where the file would be too large).
    `floats`: the same of the float model, where its activations are followed too."""

    entering: Activations
    scratch: Activations
    gated: Activations | None = None
    floats: Streams | None = None


class Passes:
    """The calibration set on its way through a block: what each stage of layers sees, some samples at a time."""

    def __init__(self, block: Block, streams: Streams, rotary: RotaryTables, weights: list[Tensor] | None) -> None:
        self.block, self.streams, self.rotary, self._weights = block, streams, rotary, weights
        width = cast(Tensor, block.mlp.c_proj.weight).shape[1]
        self.spans = streams.entering.spans(min(TOKENS, NUMBERS // width))

    def inputs(self, stage: int, span: range) -> Tensor:
        """[T, I]. The files carry what the next stages need."""
        return (self._normal, self._mixed, self._attended, self._gated)[stage](span)

    def weight(self, span: range) -> Tensor | None:
        """How much each token counts [T]."""
        if self._weights is None:
            return None
        return torch.cat([self._weights[n] for n in span]).to(self.streams.entering.device)

    def let_go(self, stage: int) -> None:
        """Lets go of the layers that are not asked again once the inputs of this stage were taken, if no layer changes
        but those to come."""
        gone: tuple[str, ...] = ()
        if stage == 2:
            gone = STAGES[0] + STAGES[1]
        elif stage == 3 and self.streams.gated:
            gone = STAGES[2]
        for layer in gone:
            owner, _, name = layer.rpartition(".")
            setattr(self.block.get_submodule(owner), name, nn.Identity())

    def leave(self, again: bool) -> None:
        """Writes the stream that leaves the block; `again`: all layers changed since the stages were gone through."""
        for span in self.spans:
            if again:
                self._mixed(span)
                self._attended(span)
            gated = self.streams.gated.read(span) if self.streams.gated and not again else self._gated(span)
            scratch = self.streams.scratch
            scratch.write(span, scratch.read(span) + self.block.mlp.c_proj(gated))

    def _normal(self, span: range) -> Tensor:
        return self.block.ln_1(self.streams.entering.read(span))

    def _mixed(self, span: range) -> Tensor:
        """Attention before its output projection; sequences do not see each other."""
        attention, entering = self.block.attn, self.streams.entering
        projected = entering.split(span, attention.c_attn(self._normal(span)))
        rows = [attention.mix_projected(qkv[None], self.rotary(len(qkv)))[0] for qkv in projected]
        mixed = torch.cat(rows)
        self.streams.scratch.write(span, mixed)
        return mixed

    def _attended(self, span: range) -> Tensor:
        """Adds what attention gives to the residual stream; the MLP's normalised input."""
        x = self.streams.entering.read(span) + self.block.attn.c_proj(self.streams.scratch.read(span))
        self.streams.scratch.write(span, x)
        return self.block.ln_2(x)

    def _gated(self, span: range) -> Tensor:
        x = self.block.ln_2(self.streams.scratch.read(span))
        # What MLP.gate does, in half the memory: this is the widest that activations get.
        gated = F.silu(self.block.mlp.w2(x), inplace=True).mul_(self.block.mlp.w1(x))
        if self.streams.gated:
            self.streams.gated.write(span, gated)
        return gated
