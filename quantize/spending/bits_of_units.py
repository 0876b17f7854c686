"""A byte budget on its way through a job: whether it can be met, what it is measured on, and what it buys.

Bytes are those of the weight files, headers and all. Knows the plan of the result, no tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from bellevl.checkpoint import Checkpoint

from ..recipe import Recipe
from ..storage.layout import TensorPlan, plan_tensors
from ..storage.shards import plan_shards
from .choice import Unit, check_budget, choose
from .sensitivity import Layers, all_units


@dataclass(frozen=True)
class UnitReport:
    """What the measurement found of a unit, and the bits that it got."""

    layers: Layers
    kl: float
    bits: int


def plan_bytes(tensors: list[TensorPlan], recipe: Recipe) -> int:
    """Bytes of the weight files with these tensors."""
    return sum(plan.size for plan in plan_shards(tensors, recipe.shard_bytes))


def bounds(checkpoint: Checkpoint, recipe: Recipe) -> tuple[int, int]:
    """The least and the most bytes that a recipe with a budget can make: no unit at 8 bits, and all of them."""
    sizes = sizes_of(checkpoint, recipe)
    every = tuple(layer for unit in all_units(checkpoint.config, recipe) for layer in unit)
    return sizes(()), sizes(every)


def check_possible(checkpoint: Checkpoint, recipe: Recipe) -> None:
    """Raises QuantizeError where the recipe's budget cannot be met."""
    if recipe.budget is not None:
        check_budget(recipe.budget, *bounds(checkpoint, recipe))


def priced_units(checkpoint: Checkpoint, recipe: Recipe, kls: dict[Layers, float]) -> list[Unit]:
    """The units with what 8 bits cost each."""
    sizes = sizes_of(checkpoint, recipe)
    return [Unit(layers, kl, max(sizes(layers) - sizes(()), 1)) for layers, kl in kls.items()]


def spend(checkpoint: Checkpoint, recipe: Recipe, kls: dict[Layers, float]) -> Recipe:
    """The recipe with its budget spent: the layers that take most divergence away get 8 bits.

    `kls`: of every unit, in the model's order, what rounding it to 4 bits costs.
    """
    assert recipe.budget is not None
    chosen = choose(priced_units(checkpoint, recipe, kls), recipe.budget, sizes_of(checkpoint, recipe))
    return with_eight_bits(recipe, chosen)


def with_eight_bits(recipe: Recipe, layers: Layers) -> Recipe:
    """The recipe with these layers at 8 bits too."""
    return replace(recipe, eight_bits=(*recipe.eight_bits, *layers))


def report_units(kls: dict[Layers, float], spent: Recipe) -> list[UnitReport]:
    """What became of every unit."""
    return [UnitReport(layers, kl, 8 if layers[0] in spent.eight_bits else 4) for layers, kl in kls.items()]


def sizes_of(checkpoint: Checkpoint, recipe: Recipe) -> Callable[[Layers], int]:
    """Bytes of the result with these layers at 8 bits too."""
    return functools.lru_cache(maxsize=None)(
        lambda layers: plan_bytes(plan_tensors(checkpoint, with_eight_bits(recipe, layers)), recipe)
    )
