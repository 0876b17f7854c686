"""One block at a time: read from the checkpoint, calibrated, quantized layer by layer, let go.

The block's layers are taken in four stages. Each gathers its Hessian with the layers of the earlier stages already
quantized, so a layer learns to make good the errors before it, and the sums run once. Of the calibration set only the
residual stream is kept. Weights stay in the dtype they are stored in; bfloat16 ones are multiplied in it where the
processor can, everything else in float32, piece by piece. While a block is solved a thread reads the next one.

Knows no folder but the source and no result file.
"""

from __future__ import annotations

import copy
import functools
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

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

from .meter import Stopwatch
from .recipe import Recipe
from .solver.drift import Drift
from .solver.gptq import QuantizedWeight, quantize_weights, round_weight
from .solver.hessian import HessianSum
from .solver.nf4_layer import Nf4Layer, round_nf4
from .storage.activations import CPU, Activations
from .storage.layout import STAGES, block_prefix
from .transform import Rotation

#: Outputs of a stored layer that become float32 at a time.
PIECE = 2048

#: Tokens that go through a layer at a time: so many that reading its weights costs nothing beside the products.
TOKENS = 2048


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer of a block, by its name in it, solved."""

    layer: str
    weight: QuantizedWeight | Nf4Layer
    bias: Tensor | None


class StoredLinear(nn.Module):
    """A float layer in the dtype it is stored in; gives float32."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty((out_features, in_features)))
        self.register_buffer("bias", torch.empty(out_features) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in float32"""
        if multiplies_in(self.weight) == torch.bfloat16:
            out = F.linear(x.bfloat16(), self.weight).float()
        else:
            out = torch.cat([F.linear(x, weight.float()) for weight in self.weight.split(PIECE)], dim=-1)
        return out if self.bias is None else out.add_(self.bias.float())


def _stored_linear(name: str, in_features: int, out_features: int, bias: bool) -> nn.Module:
    return StoredLinear(in_features, out_features, bias)


class QuantizedLinear(nn.Module):
    """A solved layer with the weights that a reader of the result gets, in the dtype that its block multiplies in."""

    def __init__(self, quantized: QuantizedWeight, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        inputs, outputs = quantized.codes.shape
        self.weight = torch.empty((inputs, outputs), dtype=dtype, device=quantized.codes.device)
        groups = quantized.g_idx.long()
        for start in range(0, outputs, PIECE):
            part = slice(start, start + PIECE)
            scales = quantized.scales[:, part].to(dtype)
            piece = packing.dequantize(quantized.codes[:, part], scales, quantized.zeros[:, part], groups)
            self.weight[:, part] = piece
        self.bias = None if bias is None else bias.half()

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in float32"""
        out = (x.to(self.weight.dtype) @ self.weight).float()
        return out if self.bias is None else out.add_(self.bias.float())


def multiplies_in(weight: Tensor) -> torch.dtype:
    """What layers stored in this weight's dtype are multiplied in, where it is."""
    return torch.bfloat16 if weight.dtype == torch.bfloat16 and _has_bfloat16(weight.device) else torch.float32


@functools.lru_cache(maxsize=8)
def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device has products of bfloat16; without them torch is slower in it than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(bool(ask()) for ask in asked if ask is not None)


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


def read_block(source: Path, config: ModelConfig, index: int, rotation: Rotation | None = None) -> Block:
    """Block `index` with weights as they are stored (norms in float32), turned by `rotation`.

    Raises CheckpointError where one is missing or not finite.
    """
    with torch.device("meta"):
        block = Block(config, index, _stored_linear)
    with Checkpoint.open(source) as checkpoint:
        tensors = {name: checkpoint.read_copy(block_prefix(index) + name) for name in block.state_dict()}
    for name in list(tensors):
        full = block_prefix(index) + name
        tensor = tensors.pop(name)
        if not _is_finite(tensor):
            raise CheckpointError("model.not_finite", name=full)
        owner, _, part = name.rpartition(".")
        module = block.get_submodule(owner)
        if isinstance(module, StoredLinear):
            setattr(module, part, tensor)
        else:
            setattr(module, part, nn.Parameter(tensor.float(), requires_grad=False))
    if rotation is not None:
        rotation.block(block, index)
    return block.eval()


def _is_finite(tensor: Tensor) -> bool:
    """One number that is not finite makes the sum so too; a sum that overflows asks for the long way."""
    return math.isfinite(float(tensor.sum(dtype=torch.float32))) or bool(tensor.isfinite().all())


class BlockReader:
    """Hands out the blocks in order, on `device`; a thread reads the next one meanwhile."""

    def __init__(
        self,
        source: Path,
        config: ModelConfig,
        first: int,
        device: torch.device = CPU,
        rotation: Rotation | None = None,
    ) -> None:
        self._source, self._config, self._next, self._device = source, config, first, device
        self._rotation = rotation
        self._thread: threading.Thread | None = None
        self._found: tuple[Block | BaseException, float] | None = None
        self._start()

    def take(self) -> tuple[Block, float]:
        """The next block and the seconds that reading it took. Raises what reading it raised."""
        assert self._thread is not None, "no block is left"
        self._thread.join()
        assert self._found is not None
        (block, seconds), self._found = self._found, None
        self._next += 1
        self._start()
        if isinstance(block, BaseException):
            raise block
        return block.to(self._device), seconds

    def __enter__(self) -> BlockReader:
        return self

    def __exit__(self, *exc: object) -> None:
        """Waits for the thread."""
        if self._thread is not None:
            self._thread.join()
        self._found = None

    def _start(self) -> None:
        self._thread = None
        if self._next < self._config.num_hidden_layers:
            self._thread = threading.Thread(target=self._read, args=(self._next,), name="reader", daemon=True)
            self._thread.start()

    def _read(self, index: int) -> None:
        began = time.perf_counter()
        block: Block | BaseException
        try:
            block = read_block(self._source, self._config, index, self._rotation)
        except BaseException as error:  # told to whoever takes the block
            block = error
        self._found = block, time.perf_counter() - began


class Streams(NamedTuple):
    """Files of activations: the residual stream that enters a block (kept until the block is done), what is between
    its stages, and the gated activations of its MLP (None: computed twice, where the file would be too large).
    `floats`: the same of the float model, where its activations are followed too."""

    entering: Activations
    scratch: Activations
    gated: Activations | None = None
    floats: Streams | None = None


@torch.inference_mode()
def quantize_block(
    block: Block,
    index: int,
    streams: Streams,
    rotary: RotaryTables,
    recipe: Recipe,
    watch: Stopwatch,
    *,
    last: bool = False,
    weights: list[Tensor] | None = None,
) -> Iterator[QuantizedLayer]:
    """Quantizes `block` on the residual stream that enters it, layer by layer in the order of STAGES.

    `weights`: how much each token of each sample counts [T], None: all the same.

    Afterwards `streams.scratch` holds the stream that leaves the quantized block (`last`: nobody needs it), that of
    `streams.floats` the one that leaves the block as it was.
    Raises QuantizeError when activations are not finite.
    """
    passes = _Passes(block, streams, rotary, weights)
    floats = None if streams.floats is None else _Passes(_twin(block), streams.floats, rotary, weights)
    dtype = multiplies_in(cast(StoredLinear, block.mlp.w1).weight)
    waiting: list[QuantizedLayer] = []
    for stage, layers in enumerate(STAGES):
        modules = [cast(StoredLinear, block.get_submodule(layer)) for layer in layers]
        drift = None if floats is None else Drift([module.weight for module in modules])
        H = _gather(passes, floats, drift, stage, layers, index, watch)
        with watch.part("solve"):
            found = _solve(modules, layers, index, H, recipe, drift)
        del H, drift
        for layer, module in zip(layers, modules, strict=True):
            solved = QuantizedLayer(layer, found.pop(0), module.bias)
            if recipe.true_sequential:
                with watch.part("forward"):
                    _install(block, solved, dtype)
            else:
                waiting.append(solved)
            yield solved
            del solved
        del modules, module
    for solved in waiting:
        _install(block, solved, dtype)
    if not last:
        with watch.part("forward"):
            passes.leave(again=not recipe.true_sequential)
            if floats is not None:
                floats.leave(again=False)


def _solve(
    modules: list[StoredLinear], layers: tuple[str, ...], index: int, H: Tensor, recipe: Recipe, drift: Drift | None
) -> list[QuantizedWeight]:
    """The layers of a stage. Those of one recipe share its factorization of H."""
    recipes = [recipe.for_layer(block_prefix(index) + layer) for layer in layers]
    if len(set(recipes)) == 1:
        return quantize_weights([module.weight for module in modules], H, recipes[0], drift)
    found = []
    for n, (module, alone) in enumerate(zip(modules, recipes, strict=True)):
        found += quantize_weights([module.weight], H, alone, None if drift is None else drift.of_layer(n))
    return found


def _twin(block: Block) -> Block:
    """Another block of the same weights, not copied: replacing layers of the one leaves the other as it was."""
    shared = {id(tensor): tensor for tensor in (*block.parameters(), *block.buffers())}
    return copy.deepcopy(block, shared)


@torch.inference_mode()
def round_block(block: Block, index: int, recipe: Recipe, watch: Stopwatch) -> Iterator[QuantizedLayer]:
    """Every weight of the block to its nearest code, layer by layer; knows no activations."""
    for layer in (layer for stage in STAGES for layer in stage):
        module = cast(StoredLinear, block.get_submodule(layer))
        with watch.part("solve"):
            weight: QuantizedWeight | Nf4Layer
            if recipe.method == "nf4":
                weight = round_nf4(module.weight)
            else:
                weight = round_weight(module.weight, recipe.for_layer(block_prefix(index) + layer))
        yield QuantizedLayer(layer, weight, module.bias)
        del weight


def _gather(
    passes: _Passes,
    floats: _Passes | None,
    drift: Drift | None,
    stage: int,
    layers: tuple[str, ...],
    index: int,
    watch: Stopwatch,
) -> Tensor:
    """The Hessian that the layers of a stage share; `drift` gathers how their inputs differ from those in `floats`."""
    total = None
    for span in passes.spans:
        with watch.part("forward"):
            x = passes.inputs(stage, span)
        with watch.part("hessian"):
            total = total or HessianSum(x.shape[1], x.device)
            total.add(x, passes.weight(span))
        if floats is not None and drift is not None:
            with watch.part("forward"):
                y = floats.inputs(stage, span)
            with watch.part("hessian"):
                drift.add(x, y, passes.weight(span))
    assert total is not None
    with watch.part("hessian"):
        H = total.finish()
    # An input that was ever not finite shows on the diagonal; testing all of H would take as much memory again.
    if not bool(H.diagonal().isfinite().all()):
        raise QuantizeError("quantize.not_finite", block=index, layer=layers[0])
    return H


class _Passes:
    """The calibration set on its way through a block: what each stage of layers sees, some samples at a time."""

    def __init__(self, block: Block, streams: Streams, rotary: RotaryTables, weights: list[Tensor] | None) -> None:
        self.block, self.streams, self.rotary, self._weights = block, streams, rotary, weights
        self.spans = streams.entering.spans(TOKENS)

    def inputs(self, stage: int, span: range) -> Tensor:
        """[T, I]. The files carry what the next stages need."""
        return (self._normal, self._mixed, self._attended, self._gated)[stage](span)

    def weight(self, span: range) -> Tensor | None:
        """How much each token counts [T]."""
        if self._weights is None:
            return None
        return torch.cat([self._weights[n] for n in span]).to(self.streams.entering.device)

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
        gated = self.block.mlp.gate(self.block.ln_2(self.streams.scratch.read(span)))
        if self.streams.gated:
            self.streams.gated.write(span, gated)
        return gated


def _install(block: Block, solved: QuantizedLayer, dtype: torch.dtype) -> None:
    owner, _, name = solved.layer.rpartition(".")
    assert isinstance(solved.weight, QuantizedWeight)
    setattr(block.get_submodule(owner), name, QuantizedLinear(solved.weight, solved.bias, dtype))
