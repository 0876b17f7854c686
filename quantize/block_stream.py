"""One block at a time: read from the checkpoint, calibrated, quantized layer by layer, let go.

The block's layers are taken in four stages. Each gathers its Hessian with the layers of the earlier stages already
quantized, so a layer learns to make good the errors before it, and the sums run once. Of the calibration set only the
residual stream is kept. Weights stay in the dtype they are stored in and become float32 piece by piece.

Knows no folder but the source and no result file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bellevl import packing
from bellevl.checkpoint import Checkpoint
from bellevl.config import ModelConfig
from bellevl.errors import CheckpointError, QuantizeError
from bellevl.layers import Rotary, ntk_alpha
from bellevl.model import BelleVL
from bellevl.text import Block

from .activations import Activations
from .gptq import QuantizedWeight, quantize_weights
from .hessian import HessianSum
from .layout import STAGES, block_prefix
from .recipe import Recipe

#: Outputs of a stored layer that become float32 at a time.
PIECE = 2048


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer of a block, by its name in it, solved."""

    layer: str
    weight: QuantizedWeight
    bias: Tensor | None


class StoredLinear(nn.Module):
    """A float layer in the dtype it is stored in; computes in float32."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty((out_features, in_features)))
        self.register_buffer("bias", torch.empty(out_features) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in float32"""
        pieces = [F.linear(x, weight.float()) for weight in self.weight.split(PIECE)]
        out = torch.cat(pieces, dim=-1) if len(pieces) > 1 else pieces[0]
        return out if self.bias is None else out.add_(self.bias.float())


class QuantizedLinear(nn.Module):
    """A solved layer as a reader of the result computes it, in float32."""

    def __init__(self, quantized: QuantizedWeight, bias: Tensor | None) -> None:
        super().__init__()
        self.words = packing.pack_rows(quantized.codes)
        self.scales, self.zeros, self.groups = quantized.scales, quantized.zeros, quantized.g_idx.long()
        self.bias = None if bias is None else bias.half()

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in float32"""
        pieces = []
        for start in range(0, self.words.shape[1], PIECE):
            part = slice(start, start + PIECE)
            codes, scales = packing.unpack_rows(self.words[:, part]), self.scales[:, part].float()
            pieces.append(x @ packing.dequantize(codes, scales, self.zeros[:, part], self.groups))
        out = torch.cat(pieces, dim=-1) if len(pieces) > 1 else pieces[0]
        return out if self.bias is None else out.add_(self.bias.float())


class RotaryTables:
    """Rotary tables of a model, by sequence length."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        with torch.device("meta"):
            self._model = BelleVL(config).eval()
        self._get = functools.lru_cache(maxsize=64)(self._make)

    def __call__(self, length: int) -> Rotary:
        """For positions 0 .. length - 1."""
        return self._get(length)

    def _make(self, length: int) -> Rotary:
        alpha = ntk_alpha(length, self._config.seq_length) if self._config.use_dynamic_ntk else 1
        return self._model.rotary(torch.arange(length), alpha)


def read_block(source: Path, config: ModelConfig, index: int) -> Block:
    """Block `index` with weights as they are stored (norms in float32).

    Raises CheckpointError where one is missing or not finite.
    """
    with torch.device("meta"):
        block = Block(config, index, StoredLinear)
    for name in list(block.state_dict()):
        full = block_prefix(index) + name
        # Opened for each tensor: a shard's mapped pages count as memory until it is closed.
        with Checkpoint.open(source) as checkpoint:
            tensor = checkpoint.read(full).clone()
        if not bool(tensor.isfinite().all()):
            raise CheckpointError("model.not_finite", name=full)
        owner, _, part = name.rpartition(".")
        module = block.get_submodule(owner)
        if isinstance(module, StoredLinear):
            setattr(module, part, tensor)
        else:
            setattr(module, part, nn.Parameter(tensor.float(), requires_grad=False))
    return block.eval()


@torch.inference_mode()
def quantize_block(
    block: Block,
    index: int,
    stream: Activations,
    scratch: Activations,
    rotary: RotaryTables,
    recipe: Recipe,
    *,
    last: bool = False,
) -> Iterator[QuantizedLayer]:
    """Quantizes `block` on the residual stream that enters it, layer by layer in the order of STAGES.

    Afterwards `scratch` holds the stream that leaves the quantized block (`last`: nobody needs it).
    Raises QuantizeError when activations are not finite.
    """
    waiting: list[QuantizedLayer] = []
    for stage, layers in enumerate(STAGES):
        inputs = _stage_inputs(stage, block, stream, scratch, rotary)
        for solved in _solve_stage(block, index, layers, inputs, recipe):
            if recipe.true_sequential:
                _install(block, solved)
            else:
                waiting.append(solved)
            yield solved
            del solved
    for layer in waiting:
        _install(block, layer)
    if last:
        return
    for n in range(len(stream)):
        if recipe.true_sequential:
            x = scratch.read(n)
            scratch.write(n, x + block.mlp(block.ln_2(x)))
        else:
            scratch.write(n, block(stream.read(n)[None], rotary(stream.lengths[n]))[0])


def _stage_inputs(
    stage: int, block: Block, stream: Activations, scratch: Activations, rotary: RotaryTables
) -> Iterator[Tensor]:
    """What the layers of a stage see, sample by sample [T, I]; `scratch` carries what the next stages need."""
    steps: tuple[Callable[[int], Tensor], ...] = (
        lambda n: block.ln_1(stream.read(n)),
        lambda n: _mix(block, n, stream, scratch, rotary),
        lambda n: _attend(block, n, stream, scratch),
        lambda n: block.mlp.gate(block.ln_2(scratch.read(n))),
    )
    return map(steps[stage], range(len(stream)))


def _mix(block: Block, n: int, stream: Activations, scratch: Activations, rotary: RotaryTables) -> Tensor:
    """Attention before its output projection."""
    mixed = block.attn.mix(block.ln_1(stream.read(n))[None], rotary(stream.lengths[n]))[0]
    scratch.write(n, mixed)
    return mixed


def _attend(block: Block, n: int, stream: Activations, scratch: Activations) -> Tensor:
    """Adds what attention gives to the residual stream; the MLP's normalised input."""
    x = stream.read(n) + block.attn.c_proj(scratch.read(n))
    scratch.write(n, x)
    return block.ln_2(x)


def _solve_stage(
    block: Block, index: int, layers: tuple[str, ...], inputs: Iterator[Tensor], recipe: Recipe
) -> Iterator[QuantizedLayer]:
    """Gathers the Hessian that the layers share and solves them."""
    modules = [cast(StoredLinear, block.get_submodule(layer)) for layer in layers]
    total = HessianSum(modules[0].weight.shape[1])
    for x in inputs:
        total.add(x)
    H = total.finish()
    # An input that was ever not finite shows on the diagonal; testing all of H would take as much memory again.
    if not bool(H.diagonal().isfinite().all()):
        raise QuantizeError("quantize.not_finite", block=index, layer=layers[0])
    solved = quantize_weights([module.weight for module in modules], H, recipe)
    biases = [module.bias for module in modules]
    del H, total, modules  # a layer's consumer works on it while this waits
    for layer, bias in zip(layers, biases, strict=True):
        yield QuantizedLayer(layer, solved.pop(0), bias)


def _install(block: Block, solved: QuantizedLayer) -> None:
    owner, _, name = solved.layer.rpartition(".")
    setattr(block.get_submodule(owner), name, QuantizedLinear(solved.weight, solved.bias))
