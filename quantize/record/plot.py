"""Drawings as SVG text: points, lines and stacked bars on two axes. Knows nothing of what they show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 270
LEFT, RIGHT, TOP, BOTTOM = 74, 10, 12, 46

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """What an axis is called, whether it begins at zero, and whether its values are whole numbers, which get room at
    both ends."""

    label: str
    zero: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one name and colour."""

    name: str
    colour: str
    points: list[Point]


@dataclass(frozen=True)
class _Frame:
    """Where values lie on the page."""

    low: Point
    high: Point

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.low[0]) / (self.high[0] - self.low[0])

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low[1]) / (self.high[1] - self.low[1])


def plot(series: list[Series], across: Axis, up: Axis, joined: bool = False) -> str:
    """Points, or lines through them."""
    points = [point for one in series for point in one.points]
    frame = _frame([p[0] for p in points], [p[1] for p in points], across, up)
    drawn = [_line(one, frame) if joined else _dots(one, frame) for one in series]
    return _page(frame, across, up, drawn)


def bars(series: list[Series], across: Axis, up: Axis) -> str:
    """Stacked bars: every series has a point at the same places."""
    places = [x for x, _ in series[0].points]
    tops = [sum(one.points[n][1] for one in series) for n in range(len(places))]
    frame = _frame(places, [*tops, 0.0], across, up)
    width = 0.8 * (frame.x(1) - frame.x(0))
    drawn, under = [], [0.0] * len(places)
    for one in series:
        for n, (x, value) in enumerate(one.points):
            top, foot = frame.y(under[n] + value), frame.y(under[n])
            under[n] += value
            title = f"<title>{escape(one.name)} {value:.2f}</title>"
            place = f'x="{frame.x(x) - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{foot - top:.1f}"'
            drawn.append(f'<rect {place} fill="{one.colour}">{title}</rect>')
    return _page(frame, across, up, drawn)


def legend(series: list[Series]) -> str:
    """Names beside their colours."""
    items = (f'<span><b style="color:{one.colour}">■</b> {escape(one.name)}</span>' for one in series)
    return f'<p class="key">{" ".join(items)}</p>'


def _dots(one: Series, frame: _Frame) -> str:
    name = escape(one.name)
    dots = (
        f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3"><title>{name} {x:g}: {y:.4g}</title></circle>'
        for x, y in one.points
    )
    return f'<g fill="{one.colour}">{"".join(dots)}</g>'


def _line(one: Series, frame: _Frame) -> str:
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in one.points)
    return f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="1.5"/>'


def _frame(xs: list[float], ys: list[float], across: Axis, up: Axis) -> _Frame:
    room = 0.6 if across.whole else 0.0
    (left, right), (foot, top) = _range([min(xs) - room, max(xs) + room], across.zero), _range(ys, up.zero)
    return _Frame((left, foot), (right, top + 0.05 * (top - foot)))


def _range(values: list[float], zero: bool) -> Point:
    low, high = min(values), max(values)
    low = min(low, 0.0) if zero else low
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers between two values: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= most)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _page(frame: _Frame, across: Axis, up: Axis, drawn: list[str]) -> str:
    foot = HEIGHT - BOTTOM
    parts = []
    for value in ticks(frame.low[1], frame.high[1], 6):
        y = f"{frame.y(value):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" dy=".35em" text-anchor="end">{value:.4g}</text>')
    for value in ticks(frame.low[0], frame.high[0]):
        if across.whole and value != round(value):
            continue
        parts.append(f'<text x="{frame.x(value):.1f}" y="{foot + 18}" text-anchor="middle">{value:.4g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across.label)}</text>')
    turned = f"translate(16 {(TOP + foot) / 2:.0f}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(up.label)}</text>')
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}{"".join(drawn)}</svg>'
    return f'<div class="wide">{drawing}</div>'
