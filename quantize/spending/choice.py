"""Which units get 8 bits when the result may be larger than 4 bits make it. Knows no tensor and no file.

The errors that rounding makes are small and independent of each other, so their divergences add up: what a set of
units at 8 bits takes away is the sum of what each takes away (8 bits leave a 289th of a unit's squared error, nothing
to speak of). That is a knapsack, and its greedy solution, by divergence per byte, lacks at most what the first unit
that did not fit would have taken away; with four units a block that is little, and less than the sum is exact to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bellevl.errors import QuantizeError


@dataclass(frozen=True)
class Unit:
    """Layers, by their full names, that get 8 bits together: the KL divergence in nats that rounding them to 4 bits
    costs, and the bytes that 8 bits take beyond those of 4."""

    layers: tuple[str, ...]
    kl: float
    extra: int


def choose(units: Sequence[Unit], budget: int, size: Callable[[tuple[str, ...]], int]) -> tuple[str, ...]:
    """The layers that get 8 bits, in the order of `units`: those units that take most divergence away per byte, and
    then whatever still fits.

    `size` says how many bytes the result has with these layers at 8 bits; it is at most `budget` for none.
    """
    taken: set[Unit] = set()
    for unit in sorted(units, key=lambda unit: -unit.kl / unit.extra):  # of equals the first: sorting is stable
        if size(_layers(units, taken | {unit})) <= budget:
            taken.add(unit)
    return _layers(units, taken)


def check_budget(budget: int, least: int, most: int) -> None:
    """Raises QuantizeError where no result has so many bytes, or uses them: `least` are those of all at 4 bits, `most`
    of all at 8."""
    if not least <= budget <= most:
        facts = {"least": readable_size(least, up=True), "most": readable_size(most, up=False)}
        raise QuantizeError("quantize.budget", budget=readable_size(budget, up=budget > most), **facts)


def readable_size(count: int, *, up: bool) -> str:
    """13645712896 -> "13.645 GB", rounded `up` or down: typed as it is shown, a bound is kept."""
    power, unit = next(((n, u) for n, u in ((9, "GB"), (6, "MB"), (3, "kB")) if count >= 10**n), (0, "B"))
    if not power:
        return f"{count} B"
    step = 10 ** (power - 3)
    thousandths = (count + step - 1) // step if up else count // step
    return f"{thousandths // 1000}.{thousandths % 1000:03} {unit}"


def _layers(units: Sequence[Unit], taken: set[Unit]) -> tuple[str, ...]:
    return tuple(layer for unit in units if unit in taken for layer in unit.layers)
