"""Where things stand: centres and extents that do not overlap, spread evenly over nine zones.

Pure geometry in unit coordinates (0..1, y downwards). It does not know what the things are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GAP = 0.02  # least free space between two things
EDGE = 0.012  # least free space to the edge of the picture
ZONES_ZH: tuple[str, ...] = ("左上角", "上方", "右上角", "左边", "中间", "右边", "左下角", "下方", "右下角")


@dataclass(frozen=True)
class Place:
    """A square reserved for one thing: its centre and the length of its sides."""

    x: float
    y: float
    extent: float

    def clear_of(self, other: Place) -> bool:
        reach = (self.extent + other.extent) / 2 + GAP
        return abs(self.x - other.x) >= reach or abs(self.y - other.y) >= reach


def zone_of(x: float, y: float) -> int:
    """Index into ZONES_ZH of the third-by-third zone that holds a point."""
    return min(2, int(y * 3)) * 3 + min(2, int(x * 3))


def zone_margin(x: float, y: float) -> float:
    """Distance of a point to the nearest border between two zones."""
    return min(abs(v - border) for v in (x, y) for border in (1 / 3, 2 / 3))


def _point(rng: np.random.Generator, zone: int | None, extent: float) -> Place:
    row, column = (None, None) if zone is None else divmod(zone, 3)
    low, high = extent / 2 + EDGE, 1 - extent / 2 - EDGE

    def along(third: int | None) -> float:
        start, end = (low, high) if third is None else (max(low, third / 3), min(high, (third + 1) / 3))
        return float(rng.uniform(start, end)) if end > start else (low + high) / 2

    return Place(along(column), along(row), extent)


def _try(rng: np.random.Generator, extents: list[float]) -> list[Place] | None:
    zones: list[int | None] = list(rng.permutation(9).tolist())
    if rng.random() < 0.25:
        zones = [None] * len(extents)
    zones += [None] * max(0, len(extents) - len(zones))
    places: list[Place] = []
    for extent, zone in zip(extents, zones, strict=False):
        for _ in range(10):
            place = _point(rng, zone, extent)
            if all(place.clear_of(other) for other in places):
                places.append(place)
                break
        else:
            return None
    return places


def scatter(rng: np.random.Generator, extents: list[float]) -> list[Place]:
    """Places for things of the wanted extents; all shrink together while they do not fit."""
    while True:
        for _ in range(4):
            places = _try(rng, extents)
            if places is not None:
                return places
        extents = [extent * 0.9 for extent in extents]
