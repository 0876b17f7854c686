"""GPTQ as a pure function: against the tools that define it, against the paper's own algorithm, and where H is bad."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bellevl import packing
from bellevl.errors import QuantizeError
from quantize.recipe import Recipe
from quantize.solver import grid as grids
from quantize.solver import hessian
from quantize.solver.gptq import QuantizedWeight, quantize_weight, quantize_weights
from quantize.solver.hessian import HessianSum

SETTINGS = {
    "sym": Recipe(desc_act=False),
    "asym": Recipe(sym=False, desc_act=False),
    "sym-desc_act": Recipe(desc_act=True, static_groups=False),
}


@lru_cache
def source(golden: Path, layer: str = "self_attn_q_proj") -> tuple[Tensor, Tensor, Tensor]:
    """W, X and H of a golden layer."""
    tensors = load_file(golden / "gptq" / "source.safetensors")
    W, X = tensors[f"{layer}.weight"], tensors[f"{layer}.calibration_inputs"]
    gathered = HessianSum(W.shape[1])
    gathered.add(X)
    return W, X, gathered.finish()


def output_error(W: Tensor, Q: Tensor, X: Tensor) -> float:
    """|X (W - Q)^T| / |X W^T|"""
    return float((X @ (W - Q).T).norm() / (X @ W.T).norm())


def random_problem(inputs: int = 96, outputs: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight and the Hessian of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(300, inputs, generator=generator) @ torch.randn(inputs, inputs, generator=generator)
    return torch.randn(outputs, inputs, generator=generator), X.T @ X / 300


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
def test_not_above_the_better_tool(golden: Path, setting: str, search: bool) -> None:
    """At the same setting the output error is at most the better of AutoGPTQ's and GPTQModel's.

    With scales searched (the default); without, the plain algorithm reaches AutoGPTQ's within 1%.
    """
    W, X, H = source(golden)
    errors = json.loads((golden / "gptq" / "errors.json").read_text(encoding="utf-8"))
    others = {"asym": "asym-v1"}
    tools = [f"autogptq-{setting}", f"gptqmodel-{others.get(setting, setting)}"]
    theirs = [errors[tool]["self_attn_q_proj"]["relative_output_error"] for tool in tools]
    recipe = Recipe(**{**SETTINGS[setting].__dict__, "search_scales": search})
    ours = output_error(W, quantize_weight(W, H, recipe).dequantize(), X)
    assert ours <= (min(theirs) if search else 1.01 * theirs[0])


def test_act_order_with_static_groups_keeps_groups_in_place(golden: Path) -> None:
    """Static groups have the plain g_idx and still beat no act order."""
    W, X, H = source(golden)
    static, plain = quantize_weight(W, H, Recipe()), quantize_weight(W, H, Recipe(desc_act=False))
    assert torch.equal(static.g_idx, packing.plain_groups(256, 128))
    assert output_error(W, static.dequantize(), X) < output_error(W, plain.dequantize(), X)


def textbook(W: Tensor, H: Tensor, recipe: Recipe, size: int) -> Tensor:
    """The paper's algorithm 1, input by input with the Cholesky factor of the inverse, in float64; codes [I, O].

    Inputs go from the last to the first, as in ours.
    """
    W, H = W.double().flip(1), H.double().flip(0, 1)
    H += recipe.damp_percent * H.diagonal().mean() * torch.eye(len(H), dtype=torch.float64)
    Hinv = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)
    codes = torch.empty(W.T.shape)
    importance = H.diagonal()
    for j in range(W.shape[1]):
        if j % size == 0:
            part = slice(j, j + size)
            w, weight = W[:, part].T.flip(0), importance[part].flip(0)
            found = grids.search(w, weight, recipe.sym) if recipe.search_scales else grids.span(w, recipe.sym)
            grid = grids.Grid(found.scale.double(), found.zero.double())
        codes[j] = grids.encode(W[:, j], grid)
        error = (W[:, j] - grids.decode(codes[j].double(), grid)) / Hinv[j, j]
        W[:, j:] -= error[:, None] * Hinv[j, j:]
    return codes.flip(0).to(torch.uint8)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(group_size=32, desc_act=False),
        Recipe(group_size=32, desc_act=False, sym=False, search_scales=False),
    ],
)
def test_equals_the_papers_algorithm(recipe: Recipe) -> None:
    """Recursion, lazy products and one factorization give the codes of the paper's loop (a rounding tie apart)."""
    W, H = random_problem()
    ours = quantize_weight(W, H, recipe).codes
    assert (ours != textbook(W, H, recipe, 32)).float().mean() < 0.002


@pytest.mark.parametrize("desc_act", [False, True])
@pytest.mark.parametrize("group_size", [32, 128, -1])
def test_better_than_nearest(group_size: int, desc_act: bool) -> None:
    """On correlated inputs GPTQ's output error is well below rounding each weight to its nearest code."""
    W, H = random_problem(256, 64)
    recipe = Recipe(group_size=group_size, desc_act=desc_act)
    solved = quantize_weight(W, H, recipe)
    nearest = quantize_weight(W, torch.eye(256), recipe)
    assert solved.method == "gptq"
    assert solved.error < 0.8 * hessian.relative_error(W, nearest.dequantize(), H)


def test_what_is_stored_fits_the_format() -> None:
    """Codes are 0..15, symmetric zeros 8, asymmetric ones 1..15, scales float16 and as many as there are groups."""
    W, H = random_problem(256, 64)
    W[:, :32] = W[:, :32].abs() + 1
    for sym in (True, False):
        q = quantize_weight(W, H, Recipe(group_size=32, sym=sym))
        assert q.codes.max() <= 15
        assert (q.codes.shape, q.scales.shape, q.zeros.shape) == ((256, 64), (8, 64), (8, 64))
        assert q.scales.dtype == torch.float16
        assert (q.zeros == 8).all() if sym else ((q.zeros >= 1) & (q.zeros <= 15)).all()


def test_outputs_are_solved_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In how many parts the outputs are solved makes no difference but for rounding ties."""
    W, H = random_problem(128, 1200)
    whole = quantize_weight(W, H, Recipe(group_size=32, desc_act=True))
    monkeypatch.setattr("quantize.solver.gptq.OUTPUTS", 300)
    parts = quantize_weight(W, H, Recipe(group_size=32, desc_act=True))
    assert (whole.codes != parts.codes).float().mean() < 0.001
    assert torch.equal(whole.g_idx, parts.g_idx)


def test_h_is_left_as_it_was() -> None:
    """H serves as working space and comes back bit by bit."""
    W, H = random_problem(700, 16)
    H = (H + H.T) / 2
    before = H.clone()
    quantize_weight(W, H, Recipe(group_size=-1))
    assert torch.equal(H, before)
    quantize_weight(W, H, Recipe(group_size=-1, desc_act=True))
    assert torch.equal(H, before)


def test_layers_of_one_input_share_a_factorization(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers with the same inputs are solved with one factorization and get what each gets alone."""
    (W, H), (V, _) = random_problem(), random_problem(seed=5)
    alone = [quantize_weight(weight, H, Recipe(group_size=32)).codes for weight in (W, V)]
    calls = []
    factorize = hessian.factorize
    monkeypatch.setattr(hessian, "factorize", lambda H: calls.append(1) or factorize(H))
    together = quantize_weights([W, V], H, Recipe(group_size=32))
    assert len(calls) == 1
    assert all(torch.equal(a, b.codes) for a, b in zip(alone, together, strict=True))


def test_dead_columns_are_rounded_to_nearest() -> None:
    """Inputs that were always 0 in calibration keep their weights as near as the grid allows and disturb nobody."""
    W, H = random_problem(128, 32)
    H[7] = H[:, 7] = 0
    q = quantize_weight(W, H, Recipe(group_size=32, search_scales=False))
    step = q.scales[0].float()
    assert ((q.dequantize()[:, 7] - W[:, 7]).abs() <= 1.01 * step).all()
    assert q.method == "gptq"
    nothing = quantize_weight(W, torch.zeros(128, 128), Recipe(group_size=32))
    assert (nothing.method, nothing.error) == ("gptq", 0.0)


def shifted(H: Tensor, share: float) -> Tensor:
    """H with its least eigenvalue at -`share` of its mean diagonal."""
    values = torch.linalg.eigvalsh(H.double())
    mean = H.diagonal().mean()
    return H - (values[0].float() + share * mean) * torch.eye(len(H))


def test_damping_is_raised_where_needed() -> None:
    """An H that is not positive definite at 1% damping is solved at 10% or 100%, and the result says so."""
    W, H = random_problem()
    solved = quantize_weight(W, shifted(H, 0.05), Recipe(group_size=32))
    assert (solved.method, solved.damp_percent) == ("gptq", 0.1)


def refuse(*dtypes: torch.dtype) -> object:
    """A `hessian.factorize` that fails for these dtypes after spoiling its input, as a real failure does."""
    real = hessian.factorize

    def factorize(H: Tensor) -> bool:
        if H.dtype not in dtypes:
            return real(H)
        H -= 2 * H.tril()
        return False

    return factorize


def test_falls_back_to_float64_then_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where float32 fails at every damping float64 is tried, and where that fails weights are rounded to nearest."""
    W, H = random_problem()
    H = (H + H.T) / 2
    before, good = H.clone(), quantize_weight(W, H, Recipe(group_size=32, damp_percent=1.0))
    monkeypatch.setattr(hessian, "factorize", refuse(torch.float32))
    wide = quantize_weight(W, H, Recipe(group_size=32))
    assert (wide.method, wide.damp_percent) == ("gptq-float64", 1.0)
    assert (wide.codes != good.codes).float().mean() < 0.01
    monkeypatch.undo()
    monkeypatch.setattr(hessian, "factorize", refuse(torch.float32, torch.float64))
    last = quantize_weight(W, H, Recipe(group_size=32, desc_act=True))
    assert last.method == "nearest"
    assert torch.equal(H, before)
    off = (last.dequantize() - W).abs() / last.scales.float().repeat_interleave(32, dim=0).T
    assert off.median() < 0.3


@pytest.fixture
def threads() -> Iterator[None]:
    """Gives torch its threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("inputs", "outputs"), [(640, 96), (128, 4300)])
def test_threads_do_not_change_the_result(inputs: int, outputs: int) -> None:
    """One thread and four give the same bits, also where the outputs are shared out among threads."""
    W, H = random_problem(inputs, outputs)

    def solve(count: int) -> QuantizedWeight:
        torch.set_num_threads(count)
        return quantize_weight(W, H, Recipe())

    one, four = solve(1), solve(4)
    assert torch.equal(one.codes, four.codes)
    assert torch.equal(one.scales, four.scales)


def test_hessian_counts_every_token_once() -> None:
    """H is the mean of x x^T over all tokens, however they come; a weight counts a token more or less."""
    X = torch.randn(50, 24, generator=torch.Generator().manual_seed(1))
    whole, parts, weighted = HessianSum(24), HessianSum(24), HessianSum(24)
    whole.add(X)
    parts.add(X[:20])
    parts.add(X[20:])
    weighted.add(X[:25], torch.full((25,), 0.5))
    weighted.add(X[:25], torch.full((25,), 0.5))
    weighted.add(X[25:])
    expected = X.T @ X / 50
    for found in (whole, parts, weighted):
        assert torch.allclose(found.finish(), expected, atol=1e-5)


def test_a_picture_s_tokens_pull_the_hessian_less() -> None:
    """H is the weighted mean: with a weight of a third, picture tokens move it a third as much as text tokens do."""
    generator = torch.Generator().manual_seed(6)
    text, picture = torch.randn(30, 24, generator=generator), 5 + torch.randn(90, 24, generator=generator)
    gathered = HessianSum(24)
    gathered.add(torch.cat([text, picture]), torch.cat([torch.ones(30), torch.full((90,), 1 / 3)]))
    expected = (text.T @ text + picture.T @ picture / 3) / (30 + 90 / 3)
    assert torch.allclose(gathered.finish(), expected, rtol=1e-4, atol=1e-4)


def test_error_is_measured_on_outputs(golden: Path) -> None:
    """The error that a result reports is the relative output error on the calibration inputs."""
    W, X, H = source(golden)
    q = quantize_weight(W, H, Recipe())
    assert q.error == pytest.approx(output_error(W, q.dequantize(), X), rel=0.03)
    assert hessian.relative_error(W[:100], q.dequantize()[:100], H) == pytest.approx(
        output_error(W[:100], q.dequantize()[:100], X), rel=1e-3
    )


def test_searched_scales_are_never_worse() -> None:
    """In every group the searched grid's weighted error is at most that of the grid over the extremes."""
    generator = torch.Generator().manual_seed(4)
    w, importance = torch.randn(128, 50, generator=generator), torch.rand(128, generator=generator)

    def error(grid: grids.Grid) -> Tensor:
        return ((grids.decode(grids.encode(w, grid), grid) - w).square() * importance[:, None]).sum(0)

    for sym in (True, False):
        searched, plain = error(grids.search(w, importance, sym)), error(grids.span(w, sym))
        assert (searched <= plain).all()
        assert searched.sum() < 0.95 * plain.sum()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 3},
        {"group_size": 100},
        {"damp_percent": 0.0},
        {"damp_percent": 1.5},
        {"nsamples": 0},
        {"method": "awq"},
        {"picture_weight": 0.0},
        {"seqlen": 8},
        {"seed": -1},
        {"shard_bytes": 10},
    ],
)
def test_recipes_are_checked(wrong: dict[str, Any]) -> None:
    """A setting out of range is refused when the recipe is made, by its name."""
    with pytest.raises(QuantizeError) as caught:
        Recipe(**wrong)
    assert caught.value.message == "quantize.option"
    assert next(iter(wrong)) in str(caught.value)
