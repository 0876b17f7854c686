"""GPTQ: rounds the weights of one layer so that its outputs change least.

With the letters of the paper (Frantar et al., 2210.17323): weight W [O, I], Hessian H [I, I] = X^T X / n. Inputs are
quantized one after the other; each one's rounding error is made good by those that are still to come. The paper takes
the amounts from the Cholesky factor of H's inverse. They can be read from H's own factor just as well (QuIP, Chee et
al., 2307.13304, theorem 6: GPTQ is LDLQ): with H = L L^T, going from the last input to the first,

    w_k <- W_k + sum over i > k of (W_i - Q_i) L_ik / L_kk          Q_k = nearest code of w_k

which gives the same codes, needs one factorization instead of three and no inverse of H.

Pure functions of tensors: knows no module, no file and no progress.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bellevl import packing

from ..recipe import Recipe
from . import grid as grids
from . import hessian
from .drift import Drift
from .parallel import run_parallel

#: Inputs that are rounded one by one before their errors go out in one matrix product.
LEAF = 16

#: Outputs that are solved together at most: 0.17 GB of working copies at 13696 inputs. A column of so many is work
#: enough that the interpreter's share is small beside it.
OUTPUTS = 2048

#: The same on a GPU, where only the head has more: 1.3 GB of working copies at 5120 inputs.
GPU_OUTPUTS = 32_768

#: Damping is raised by these factors when the factorization fails.
DAMP_FACTORS = (1.0, 10.0, 100.0)


@dataclass(frozen=True)
class QuantizedWeight:
    """codes uint8 [I, O], scales float16 [G, O], zeros uint8 [G, O], g_idx int32 [I].

    `method` is "gptq", "gptq-float64" or "nearest" (round to nearest, when H could not be factored);
    `damp_percent` the damping that worked; `error` the relative output error on the calibration set.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    g_idx: Tensor
    method: str
    damp_percent: float
    error: float

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights [O, I] that a reader gets."""
        scales = self.scales.to(dtype)
        return packing.dequantize(self.codes, scales, self.zeros, self.g_idx.long()).T.contiguous()


@dataclass(frozen=True)
class Factor:
    """H, factored for a recipe: `U` [I, I] holds L_ik / L_kk of H[order][:, order] in its lower triangle.

    `order` [I]: inputs of small activations first, since work goes from the last to the first; None: as they stand.
    `U` None: H could not be factored. `importance` [I] is the damped diagonal of H, in the inputs' own order;
    `pivots` [I] are L_kk, in the factor's.
    """

    U: Tensor | None
    order: Tensor | None
    importance: Tensor
    method: str
    damp_percent: float
    pivots: Tensor | None = None


def quantize_weight(W: Tensor, H: Tensor, recipe: Recipe) -> QuantizedWeight:
    """W [O, I] rounded for H [I, I]. H serves as working space and is as before when this returns."""
    return quantize_weights([W], H, recipe)[0]


def quantize_weights(
    weights: list[Tensor], H: Tensor, recipe: Recipe, drift: Drift | None = None
) -> list[QuantizedWeight]:
    """The same for several layers that see the same inputs: H is factored once.

    `drift`: how the inputs differ from the float model's; then the rounded weights make good for that too.
    """
    diagonal = H.diagonal().clone()
    factor = factorize(H, recipe)
    solved = _solve(weights, factor, recipe, drift)
    put_back(H, factor, diagonal)
    return [_finish(W, found, factor, H) for W, found in zip(weights, solved, strict=True)]


def round_weight(W: Tensor, recipe: Recipe) -> QuantizedWeight:
    """W [O, I] with every weight at its nearest code; `error` is that of the weights, as if inputs had no ties."""
    factor = Factor(None, None, torch.ones(W.shape[1], device=W.device), "nearest", 0.0)
    return _finish(W, _solve([W], factor, recipe)[0], factor, None)


def factorize(H: Tensor, recipe: Recipe) -> Factor:
    """Factors H in place, reordered. Tries more damping, then float64, then gives up (`U` None)."""
    diagonal = H.diagonal().clone()
    order = diagonal.argsort(stable=True) if recipe.desc_act else None
    if order is not None:
        hessian.permute(H, order)
    saved = H.diagonal().clone()
    percent = recipe.damp_percent
    for factor in DAMP_FACTORS:
        percent = min(recipe.damp_percent * factor, 1.0)
        added = hessian.damp(H, percent)
        if hessian.factorize(H):
            return Factor(H, order, diagonal + added, "gptq", percent, hessian.divide_columns(H))
        hessian.restore(H, saved)
    wide = H.double()
    added = hessian.damp(wide, percent)
    if hessian.factorize(wide):
        pivots = hessian.divide_columns(wide).float()
        return Factor(wide.float(), order, diagonal + added, "gptq-float64", percent, pivots)
    if order is not None:
        hessian.permute(H, order.argsort())
    return Factor(None, None, diagonal + added, "nearest", 0.0)


def put_back(H: Tensor, factor: Factor, diagonal: Tensor) -> None:
    """Undoes `factorize`, bit by bit; `diagonal` is what it was."""
    if factor.U is H:
        hessian.restore(H, diagonal if factor.order is None else diagonal[factor.order])
    if factor.order is not None:
        hessian.permute(H, factor.order.argsort())


@dataclass(frozen=True)
class _Grouping:
    """How inputs, in the factor's order, fall into groups; `grids` are found beforehand (static) or on the way."""

    index: Tensor  # int32 [I], the group of each input
    count: int
    size: int
    static: bool

    @classmethod
    def of(cls, inputs: int, factor: Factor, recipe: Recipe) -> _Grouping:
        plain = packing.plain_groups(inputs, recipe.group_size)
        static = factor.U is None or (factor.order is not None and recipe.static_groups)
        index = plain[factor.order.cpu()] if static and factor.order is not None else plain
        size = inputs if recipe.group_size == -1 else recipe.group_size
        return cls(index, packing.group_count(inputs, recipe.group_size), size, static)

    def begins(self, high: int) -> int:
        """Where the group begins whose last input is `high` - 1."""
        return (high - 1) // self.size * self.size


@dataclass
class _Work:
    """What the recursion works on, inputs in the factor's order: `rows` [I, O] holds current weights, then errors."""

    rows: Tensor
    original: Tensor  # [O, I]
    codes: Tensor
    scales: Tensor
    zeros: Tensor
    U: Tensor
    importance: Tensor
    groups: _Grouping
    recipe: Recipe


_Solved = tuple[Tensor, Tensor, Tensor, Tensor]


def _solve(weights: list[Tensor], factor: Factor, recipe: Recipe, drift: Drift | None = None) -> list[_Solved]:
    """Of each layer: codes [I, O], scales and zeros [G, O] in float32, g_idx [I].

    Outputs do not depend on each other. They are solved in parts, a thread each: the parts are the same whatever the
    number of threads, and no thread waits for another after every column.
    """
    groups = _Grouping.of(weights[0].shape[1], factor, recipe)
    solved = [_empty(W, groups) for W in weights]
    jobs = []
    for n, (W, (codes, scales, zeros)) in enumerate(zip(weights, solved, strict=True)):
        for part in _parts(W.shape[0], W.device):
            missing = None if drift is None else functools.partial(drift.missing, n, part)
            given = (W[part], codes[:, part], scales[:, part], zeros[:, part])
            jobs.append(functools.partial(_solve_part, *given, factor, groups, recipe, missing))
    if weights[0].device.type == "cpu":
        run_parallel(jobs)
    else:
        for solve in jobs:
            solve()
    return [(_in_place(codes, factor.order), scales, zeros, _g_idx(groups, factor)) for codes, scales, zeros in solved]


def _empty(W: Tensor, groups: _Grouping) -> tuple[Tensor, Tensor, Tensor]:
    outputs, inputs = W.shape
    scales = torch.empty((groups.count, outputs), device=W.device)
    return torch.empty((inputs, outputs), dtype=torch.uint8, device=W.device), scales, torch.empty_like(scales)


def _parts(outputs: int, device: torch.device) -> list[slice]:
    """On the CPU even parts of at most OUTPUTS outputs, an even number of them where there is work for two.

    A GPU takes all outputs of a block's layer at once: there, starting the work of a column costs more than the work.
    """
    if device.type != "cpu":
        return [slice(start, min(start + GPU_OUTPUTS, outputs)) for start in range(0, outputs, GPU_OUTPUTS)]
    count = -(-outputs // OUTPUTS)
    count += count % 2 if outputs >= 1024 else 0
    size = -(-outputs // count // 64) * 64 if outputs >= 1024 else outputs
    return [slice(start, min(start + size, outputs)) for start in range(0, outputs, size)]


def _in_place(codes: Tensor, order: Tensor | None) -> Tensor:
    """Codes with the inputs where the layer has them."""
    return codes if order is None else torch.empty_like(codes).index_copy_(0, order, codes)


def _g_idx(groups: _Grouping, factor: Factor) -> Tensor:
    if factor.order is None:
        return groups.index
    return torch.empty_like(groups.index).index_copy_(0, factor.order.cpu(), groups.index)


def _solve_part(
    W: Tensor,
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor,
    factor: Factor,
    groups: _Grouping,
    recipe: Recipe,
    missing: Callable[[], Tensor] | None,
) -> None:
    """Fills `codes`, `scales` and `zeros` for the outputs of W."""
    if missing is not None and factor.U is not None:
        W = _in_place(_least_squares(factor, missing()), factor.order).T.add_(W)
    if groups.static:
        for group in range(groups.count):
            part = slice(group * groups.size, (group + 1) * groups.size)
            found = _find_grid(W[:, part].T.contiguous().float(), factor.importance[part], recipe)
            scales[group], zeros[group] = found
    importance = factor.importance
    if factor.order is not None and factor.U is not None:
        W, importance = W[:, factor.order], importance[factor.order]
    rows = torch.empty(codes.shape, device=W.device).copy_(W.T)
    if factor.U is None:
        index = groups.index.long()
        codes.copy_(grids.encode(rows, grids.Grid(scales[index], zeros[index]), recipe.top))
        return
    work = _Work(rows, W, codes, scales, zeros, factor.U, importance, groups, recipe)
    _descend(work, 0, rows.shape[0])


def _least_squares(factor: Factor, missing: Tensor) -> Tensor:
    """The weights [I, O], inputs in the factor's order, that add to the outputs what `missing` [O, I] asks for."""
    assert factor.U is not None
    assert factor.pivots is not None
    rows = missing.T.contiguous()
    if factor.order is not None:
        rows = rows[factor.order]
    return hessian.solve(factor.U, factor.pivots, rows)


def _descend(work: _Work, low: int, high: int) -> None:
    """Rounds rows `high` - 1 down to `low`. On entry they hold current weights, on return errors W - Q."""
    if not work.groups.static and low == work.groups.begins(high) and _ends_group(work, high):
        group = int(work.groups.index[low])
        found = _find_grid(_group_weights(work, low, high), work.importance[low:high], work.recipe)
        work.scales[group], work.zeros[group] = found
    if high - low <= LEAF:
        _round_leaf(work, low, high)
        return
    middle = _split(work, low, high)
    _descend(work, middle, high)
    _push(work, low, middle, high)
    _descend(work, low, middle)


def _group_weights(work: _Work, low: int, high: int) -> Tensor:
    """The weights of a group as they would be after all errors so far, if none of its own were rounded.

    The rows lack what its inputs owe to each other: D = W - w solves D_k + sum over i > k in the group of
    D_i L_ik / L_kk = W_k - rows_k.
    """
    if high == work.rows.shape[0]:
        return work.rows[low:high]
    original = work.original[:, low:high].T.float()
    corner = work.U[low:high, low:high].tril()
    owed = hessian.invert_triangle(corner.T, upper=True) @ (original - work.rows[low:high])
    return original - owed


def _push(work: _Work, low: int, middle: int, high: int) -> None:
    """Makes good the errors of rows [middle, high) in rows [low, middle)."""
    work.rows[low:middle].addmm_(work.U[middle:high, low:middle].T, work.rows[middle:high])


def _split(work: _Work, low: int, high: int) -> int:
    """A middle on a group's edge while the part holds several groups, on a leaf's edge below."""
    several = not work.groups.static and work.groups.size < high - low
    step = work.groups.size if several else LEAF
    return low + max((high - low) // 2 // step, 1) * step


def _ends_group(work: _Work, high: int) -> bool:
    return high % work.groups.size == 0 or high == work.rows.shape[0]


def _round_leaf(work: _Work, low: int, high: int) -> None:
    U, rows = work.U, work.rows
    original = work.original[:, low:high].T.float().contiguous()
    for k in range(high - 1, low - 1, -1):
        group = int(work.groups.index[k])
        grid = grids.Grid(work.scales[group], work.zeros[group])
        codes = grids.encode(rows[k], grid, work.recipe.top)
        work.codes[k] = codes
        torch.sub(original[k - low], grids.decode(codes, grid), out=rows[k])
        if k > low:
            rows[low:k].addr_(U[k, low:k], rows[k])


def _find_grid(w: Tensor, importance: Tensor, recipe: Recipe) -> grids.Grid:
    if recipe.search_scales:
        return grids.search(w, importance, recipe.sym, recipe.top)
    return grids.span(w, recipe.sym, recipe.top)


def _finish(W: Tensor, found: _Solved, factor: Factor, H: Tensor | None) -> QuantizedWeight:
    codes, scales, zeros, g_idx = found
    step = hessian.sampling_step(len(W))
    sampled = packing.dequantize(codes[:, ::step], scales[:, ::step], zeros[:, ::step], g_idx.long()).T
    error = hessian.relative_error(W[::step], sampled, H)
    return QuantizedWeight(
        codes, scales.half(), zeros.to(torch.uint8), g_idx, factor.method, factor.damp_percent, error
    )
