"""Spending bytes on 8 bits: what is chosen, against every other choice."""

from __future__ import annotations

import itertools
import random

import pytest

from bellevl.errors import QuantizeError
from quantize.spending.choice import Unit, check_budget, choose, readable_size

BASE = 1000


def some_units(seed: int, extras: tuple[int, ...], count: int = 10) -> list[Unit]:
    rng = random.Random(seed)
    return [Unit((f"layer{n}.a", f"layer{n}.b"), rng.expovariate(1.0), rng.choice(extras)) for n in range(count)]


def spend(units: list[Unit], budget: int) -> list[Unit]:
    """The units that are chosen where a result has 1000 bytes and what its units take."""
    extras = {layer: unit.extra / len(unit.layers) for unit in units for layer in unit.layers}
    layers = choose(units, budget, lambda names: BASE + round(sum(extras[name] for name in names)))
    return [unit for unit in units if set(unit.layers) <= set(layers)]


def taken_away(units: list[Unit]) -> float:
    return sum(unit.kl for unit in units)


def best(units: list[Unit], budget: int) -> float:
    """The most that any choice within the budget takes away."""
    choices = (list(c) for n in range(len(units) + 1) for c in itertools.combinations(units, n))
    return max(taken_away(c) for c in choices if BASE + sum(unit.extra for unit in c) <= budget)


@pytest.mark.parametrize("seed", range(5))
def test_units_of_one_size_are_chosen_as_well_as_can_be(seed: int) -> None:
    """With units of one size no choice within the budget takes more divergence away."""
    units = some_units(seed, (40,))
    for budget in range(BASE, BASE + 401, 35):
        assert taken_away(spend(units, budget)) == pytest.approx(best(units, budget), rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_units_of_several_sizes_are_chosen_nearly_as_well(seed: int) -> None:
    """With the sizes of a block's units the best choice takes away more by less than the first unit left out."""
    units = some_units(seed, (30, 10, 52, 26))
    order = sorted(units, key=lambda unit: -unit.kl / unit.extra)
    for budget in range(BASE, BASE + 340, 17):
        found = spend(units, budget)
        left_out = next((unit.kl for unit in order if unit not in found), 0.0)
        assert BASE + sum(unit.extra for unit in found) <= budget
        assert best(units, budget) - taken_away(found) <= left_out + 1e-12


def test_what_is_left_is_filled() -> None:
    """A unit that does not fit is passed over for the next one that does; the layers come in the model's order."""
    units = [Unit(("a",), 1.0, 10), Unit(("b",), 100.0, 500), Unit(("c",), 3.0, 10)]
    sizes = {unit.layers[0]: unit.extra for unit in units}
    assert choose(units, 520, lambda names: 100 + sum(sizes[name] for name in names)) == ("a", "c")
    assert choose(units, 610, lambda names: 100 + sum(sizes[name] for name in names)) == ("b", "c")
    assert choose(units, 100, lambda names: 100 + sum(sizes[name] for name in names)) == ()


def test_equals_are_taken_in_order() -> None:
    """Of units that take the same away per byte the first ones are taken, every time."""
    units = [Unit((f"{n}",), 0.5, 8) for n in range(6)]
    assert choose(units, 20, lambda names: 8 * len(names)) == ("0", "1")


@pytest.mark.parametrize("budget", [999, 2001])
def test_a_budget_that_cannot_be_met_is_refused(budget: int) -> None:
    """Below the least and above the most one line says both."""
    with pytest.raises(QuantizeError) as caught:
        check_budget(budget, 1000, 2000)
    assert caught.value.message == "quantize.budget"
    assert "1.000 kB" in str(caught.value)
    assert "2.000 kB" in str(caught.value)
    check_budget(1000, 1000, 2000)
    check_budget(2000, 1000, 2000)


def test_bounds_can_be_typed_as_they_are_shown() -> None:
    """The least is shown rounded up and the most rounded down."""
    assert readable_size(13_645_712_896, up=True) == "13.646 GB"
    assert readable_size(13_645_712_896, up=False) == "13.645 GB"
    assert readable_size(999_999_999, up=True) == "1000.000 MB"
    assert readable_size(7_000_000, up=True) == readable_size(7_000_000, up=False) == "7.000 MB"
    assert readable_size(12, up=True) == "12 B"
