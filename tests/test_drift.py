"""Layers that make good for the ones before them: what their inputs lack, and what their weights are moved to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from folders import contents, stop
from torch import Tensor

from bellevl.config import read_config
from quantize import Recipe, quantize
from quantize.blocks.passes import RotaryTables, Streams
from quantize.blocks.reader import read_block
from quantize.blocks.stages import quantize_block
from quantize.meter import Stopwatch
from quantize.record.estimate import estimate
from quantize.solver import hessian
from quantize.solver.drift import Drift
from quantize.solver.gptq import QuantizedWeight, quantize_weights
from quantize.solver.hessian import HessianSum
from quantize.storage.activations import Activations
from quantize.task import Work, prepare

RECIPE = Recipe(nsamples=6, seqlen=96, float_targets=True)


def inputs(width: int = 96, tokens: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated float inputs Y, and X: what they became, a little turned and with noise."""
    generator = torch.Generator().manual_seed(seed)
    Y = torch.randn(tokens, width, generator=generator) @ torch.randn(width, width, generator=generator)
    turn = torch.eye(width) + 0.02 * torch.randn(width, width, generator=generator)
    return Y @ turn + 0.1 * torch.randn(tokens, width, generator=generator), Y


@pytest.mark.parametrize("outputs", [(8, 16), (64, 80)])
def test_what_outputs_lack_is_gathered(outputs: tuple[int, int]) -> None:
    """W D^T X / n comes out the same from narrow and wide layers, in pieces, and a token's weight counts it less."""
    X, Y = inputs()
    weight = torch.rand(400, generator=torch.Generator().manual_seed(2))
    layers = [torch.randn(count, 96, generator=torch.Generator().manual_seed(count)) for count in outputs]
    drift = Drift(layers)
    for part in (slice(0, 150), slice(150, 400)):
        drift.add(X[part], Y[part], weight[part])
    for n, W in enumerate(layers):
        expected = W @ ((Y - X) * weight[:, None]).T @ X / weight.sum()
        assert torch.allclose(drift.missing(n, slice(2, 7)), expected[2:7], rtol=1e-3, atol=1e-3)


def test_solving_with_the_factor() -> None:
    """H^-1 B from the divided factor is what a direct solution gives, over several panels."""
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(2000, 700, generator=generator)
    H, B = X.T @ X / 2000 + torch.eye(700), torch.randn(700, 20, generator=generator)
    U = H.clone()
    assert hessian.factorize(U)
    pivots = hessian.divide_columns(U)
    assert torch.allclose(hessian.solve(U, pivots, B.clone()), torch.linalg.solve(H, B), atol=1e-5)


def test_reordering_needs_no_copy() -> None:
    """H is reordered in place, over several panels, and comes back by the inverse order bit by bit."""
    generator = torch.Generator().manual_seed(4)
    H, order = torch.randn(1100, 1100, generator=generator), torch.randperm(1100, generator=generator)
    work = H.clone()
    hessian.permute(work, order)
    assert torch.equal(work, H[order][:, order])
    hessian.permute(work, order.argsort())
    assert torch.equal(work, H)


@pytest.mark.parametrize("desc_act", [True, False])
@pytest.mark.parametrize("outputs", [40, 160])
def test_outputs_are_those_of_float_inputs(desc_act: bool, outputs: int) -> None:
    """On inputs that went astray the rounded layer gives nearly what the float layer gives on the right ones."""
    X, Y = inputs()
    W = torch.randn(outputs, 96, generator=torch.Generator().manual_seed(outputs))
    total, drift, recipe = HessianSum(96), Drift([W]), Recipe(group_size=32, desc_act=desc_act)
    total.add(X)
    drift.add(X, Y)
    H = total.finish()

    def off(solved: list[QuantizedWeight]) -> float:
        return float((X @ solved[0].dequantize().T - Y @ W.T).norm() / (Y @ W.T).norm())

    plain = off(quantize_weights([W], H, recipe))
    assert off(quantize_weights([W], H, recipe, drift)) < 0.6 * plain


def test_the_float_stream_is_the_float_models(golden: Path, tmp_path: Path) -> None:
    """While a block is quantized, the other stream leaves it as the float block's, and does not change the weights."""
    folder = golden / "model" / "model"
    config, _ = read_config(folder)
    block, reference = (read_block(folder, config, 0) for _ in range(2))
    rotary, x = RotaryTables(config), torch.randn(40, config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        names = ("entering", "scratch", "float", "float_scratch")
        files = [Activations(tmp_path / name, [40], config.hidden_size) for name in names]
        for stream in (files[0], files[2]):
            stream.write(range(1), x)
        streams = Streams(files[0], files[1], None, Streams(files[2], files[3]))
        solved = list(quantize_block(block, 0, streams, rotary, RECIPE, Stopwatch()))
        assert len(solved) == 5
        expected = reference(x[None], rotary(40))[0]
        assert torch.allclose(files[3].read(range(1)), expected, atol=1e-4)
        assert not torch.allclose(files[1].read(range(1)), expected, atol=1e-4)


def test_the_estimate_counts_the_other_stream(tiny_folder: Path, tmp_path: Path) -> None:
    """Following the float model takes two more files of activations, more memory and more work, and is told so."""
    plain, follows = (replace(RECIPE, float_targets=wanted) for wanted in (False, True))
    tasks = [prepare(tiny_folder, tmp_path / "int4", recipe, None) for recipe in (plain, follows)]
    one, other = (estimate(tiny_folder, tmp_path / "int4", recipe) for recipe in (plain, follows))
    lengths, width = tasks[0].calibration.lengths, tasks[0].config.hidden_size
    assert other.disk_bytes - one.disk_bytes == 2 * Activations.bytes_for(lengths, width)
    assert other.memory_bytes > one.memory_bytes
    assert Work.of(tasks[1]).block > 1.5 * Work.of(tasks[0]).block


def test_interrupted_anywhere_it_ends_with_the_same_bytes(tiny_folder: Path, tmp_path: Path) -> None:
    """A job that follows the float model goes on after an interruption, and its result is not the plain one's."""
    steps = len(list(quantize(tiny_folder, tmp_path / "whole", RECIPE)))
    for at in (steps // 3, steps - 9, steps - 3):
        target = tmp_path / f"stopped-{at}"
        stop(tiny_folder, target, RECIPE, at)
        list(quantize(tiny_folder, target, RECIPE))
        assert contents(target) == contents(tmp_path / "whole")
    list(quantize(tiny_folder, tmp_path / "plain", Recipe(nsamples=6, seqlen=96)))
    changed = {name for name, value in contents(tmp_path / "plain").items() if value != contents(target)[name]}
    assert changed == {"model.safetensors"}
