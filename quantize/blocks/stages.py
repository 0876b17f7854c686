"""A block, quantized layer by layer.

The block's layers are taken in four stages. Each gathers its Hessian with the layers of the earlier stages already
quantized, so a layer learns to make good the errors before it, and the sums run once. What nobody will ask again is let
go at once: at the 14B's widths the Hessian of mlp.c_proj alone is larger than the block.

Knows no folder and no result file.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ParamSpec, cast

import torch
from torch import Tensor

from bellevl.errors import QuantizeError
from bellevl.text import Block

from ..meter import Stopwatch, give_back
from ..recipe import Recipe
from ..solver.drift import Drift
from ..solver.gptq import QuantizedWeight, quantize_weights, round_weight
from ..solver.hessian import HessianSum
from ..solver.nf4_layer import Nf4Layer, round_nf4
from ..solver.scaling import divide_inputs, find_scales, multiply_inputs
from ..storage.layout import NORMS, STAGES, block_prefix
from .linears import QuantizedLinear, StoredLinear, multiplies_in
from .passes import Passes, RotaryTables, Streams

Given = ParamSpec("Given")

#: Layer -> the one whose last outputs become its inputs, channel by channel.
MADE_BY = {"attn.c_proj": "attn.c_attn", "mlp.c_proj": "mlp.w1"}


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer of a block, by its name in it, solved.

    `divisor` [I]: what its inputs have to be divided by, which those in the block here are not. Where a norm makes
    them, `norm` is the weight that it has to have.
    """

    layer: str
    weight: QuantizedWeight | Nf4Layer
    bias: Tensor | None
    divisor: Tensor | None = None
    norm: Tensor | None = None

    def divide_outputs(self, s: Tensor) -> QuantizedLayer:
        """The same with its last outputs divided by s: of [q ; k ; v] the values. Exact: s are powers of two."""
        assert isinstance(self.weight, QuantizedWeight)
        part = slice(self.weight.scales.shape[1] - len(s), None)
        scales, bias = self.weight.scales.clone(), None if self.bias is None else self.bias.clone()
        for numbers in (scales, bias):
            if numbers is not None:
                numbers[..., part] = (numbers[..., part].float() / s).to(numbers.dtype)
        return replace(self, weight=replace(self.weight, scales=scales), bias=bias)


def _without_gradients(work: Callable[Given, Iterator[QuantizedLayer]]) -> Callable[Given, Iterator[QuantizedLayer]]:
    """torch.inference_mode for a generator. torch's own holds on to what was yielded last: a layer's codes, while the
    next one is solved."""

    @functools.wraps(work)
    def run(*args: Given.args, **named: Given.kwargs) -> Iterator[QuantizedLayer]:
        steps = work(*args, **named)
        while True:
            with torch.inference_mode():
                found = list(itertools.islice(steps, 1))
            if not found:
                return
            yield found.pop()

    return run


@_without_gradients
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
    """Quantizes `block` on the residual stream that enters it, layer by layer in the order of STAGES, and uses it up.
    What inputs are to be divided by is still to be put somewhere, see `fold`.

    `weights`: how much each token of each sample counts [T], None: all the same.

    Afterwards `streams.scratch` holds the stream that leaves the quantized block (`last`: nobody needs it), that of
    `streams.floats` the one that leaves the block as it was.
    Raises QuantizeError when activations are not finite.
    """
    passes = Passes(block, streams, rotary, weights)
    floats = None if streams.floats is None else Passes(_twin(block), streams.floats, rotary, weights)
    dtype = multiplies_in(cast(StoredLinear, block.mlp.w1).weight)
    waiting: list[QuantizedLayer] = []
    for stage, layers in enumerate(STAGES):
        modules = [cast(StoredLinear, block.get_submodule(layer)) for layer in layers]
        drift = None if floats is None else Drift([module.weight for module in modules])
        give_back()
        H = _gather(passes, floats, drift, stage, layers, index, watch)
        if recipe.true_sequential:
            for walked in (passes, floats):
                if walked is not None:
                    walked.let_go(stage)
        with watch.part("solve"):
            found, s = _solve([module.weight for module in modules], layers, index, H, recipe, drift)
        del H, drift
        for layer, module in zip(layers, modules, strict=True):
            solved = QuantizedLayer(layer, found.pop(0), module.bias, s)
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


@_without_gradients
def fold(solved: Iterator[QuantizedLayer], block: Block) -> Iterator[QuantizedLayer]:
    """What divides a layer's inputs goes into what makes them: a norm, or the layer before it, held back till then.

    Layers whose inputs nothing divides go through as they are.
    """
    held: QuantizedLayer | None = None
    for layer in solved:
        if layer.divisor is None:
            yield layer
        elif layer.layer in NORMS:
            norm = cast(Tensor, block.get_submodule(NORMS[layer.layer]).weight)
            held = replace(layer, norm=norm / layer.divisor)
        else:
            if held is not None and MADE_BY.get(layer.layer) == held.layer:
                yield held.divide_outputs(layer.divisor)
                held = None
            yield layer
        del layer


def _solve(
    weights: list[Tensor], layers: tuple[str, ...], index: int, H: Tensor, recipe: Recipe, drift: Drift | None
) -> tuple[list[QuantizedWeight], Tensor | None]:
    """The layers of a stage, for inputs that are divided by the second of what this returns."""
    recipes = [recipe.for_layer(block_prefix(index) + layer) for layer in layers]
    if not recipe.awq_scaling:
        return _solve_together(weights, H, recipes, drift), None
    s = find_scales(weights, H, lambda sampled, H: _solve_together(sampled, H, recipes, None))
    divide_inputs(H, s)
    if drift is not None:
        drift.divide_inputs(s)
    return _solve_together([multiply_inputs(W, s) for W in weights], H, recipes, drift), s


def _solve_together(
    weights: list[Tensor], H: Tensor, recipes: list[Recipe], drift: Drift | None
) -> list[QuantizedWeight]:
    """Those of one recipe share its factorization of H."""
    if len(set(recipes)) == 1:
        return quantize_weights(weights, H, recipes[0], drift)
    found = []
    for n, (W, alone) in enumerate(zip(weights, recipes, strict=True)):
        found += quantize_weights([W], H, alone, None if drift is None else drift.of_layer(n))
    return found


def _twin(block: Block) -> Block:
    """Another block of the same weights, not copied: replacing layers of the one leaves the other as it was."""
    shared = {id(tensor): tensor for tensor in (*block.parameters(), *block.buffers())}
    return copy.deepcopy(block, shared)


@_without_gradients
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
    passes: Passes,
    floats: Passes | None,
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
        give_back()
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


def _install(block: Block, solved: QuantizedLayer, dtype: torch.dtype) -> None:
    owner, _, name = solved.layer.rpartition(".")
    assert isinstance(solved.weight, QuantizedWeight)
    setattr(block.get_submodule(owner), name, QuantizedLinear(solved.weight, solved.bias, dtype, solved.divisor))
