"""Where the lines of the page's charts run.  Units are CSS pixels at full size; everything is a string when it is done.

A chart is narrow enough for a telephone: the page puts as many side by side as there is room for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hexdsl.report import figures as say

WIDTH, HEIGHT = 320, 132
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 18, 22
FLOOR = HEIGHT - BOTTOM
LABEL_STEP = 13
WORDS_APART = 48
EDGE = 0.55
"""Labels right of this share of the width stand left of their mark."""

Place = Callable[[float], float]
"""A value to a place in the drawing."""

TIMES = (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
ENOUGH = 3
"""The unit of a time axis is the largest of which it shows so many."""


@dataclass(frozen=True)
class Curve:
    """A line or an area with its class in the style sheet."""

    path: str
    style: str


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place there, and its words."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A limit: an upright dashed line with words (`anchor` is SVG's), and the point that a percentile asks for."""

    x: float
    text: str
    anchor: str
    y: float
    point: float | None


@dataclass(frozen=True)
class Chart:
    """A chart without its words around it."""

    curves: tuple[Curve, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    marks: tuple[Mark, ...] = ()


def step_path(values: Sequence[float], x: Place, y: Place) -> str:
    """Slices as steps; slice i runs from `x(i)` to `x(i + 1)`."""
    start = f"M{_n(x(0))} {_n(y(values[0]))}"
    steps = []
    for i, value in enumerate(values):
        rise = f"V{_n(y(value))}" if i and value != values[i - 1] else ""
        last = i + 1 == len(values) or values[i + 1] != value
        steps.append(rise + (f"H{_n(x(i + 1))}" if last else ""))
    return start + "".join(steps)


def area_path(values: Sequence[float], x: Place, y: Place) -> str:
    """The area under `step_path`."""
    return f"{step_path(values, x, y)}V{_n(y(0))}H{_n(x(0))}Z"


def line_path(xs: Sequence[float], ys: Sequence[float], x: Place, y: Place) -> str:
    """A line through points."""
    return "M" + "L".join(f"{_n(x(a))} {_n(y(b))}" for a, b in zip(xs, ys, strict=True))


def _n(value: float) -> str:
    """A coordinate with one decimal, which is a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def linear(low: float, high: float, start: float, end: float) -> Place:
    """`low` is drawn at `start`, `high` at `end`."""
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Place:
    """The same on a logarithmic scale; what is below `low` is drawn there."""
    place = linear(math.log(low), math.log(high), start, end)
    return lambda value: place(math.log(max(value, low)))


def round_steps(top: float, most: int = 4) -> tuple[float, ...]:
    """0 and the multiples of 1, 2 or 5 times a power of ten up to `top`, at most `most` of them above 0."""
    if not top > 0:
        return (0.0,)
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(power * m for m in (1, 2, 5, 10, 20) if top / (power * m) <= most)
    return tuple(float(f"{step * i:.6g}") for i in range(int(top / step * (1 + 1e-9)) + 1))


def log_ticks(low: float, high: float, place: Place, unit: str) -> tuple[Tick, ...]:
    """Ticks of a logarithmic axis: the round values, or of them those that leave room for each other's words."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[Tick] = []
    for factors in ((1,), (5,), (2,), (3, 7), (4, 6, 8, 9)):
        steps = (float(f"{m * 10.0**p:.6g}") for p in powers for m in factors)
        for step in (s for s in steps if low <= s <= high):
            if all(abs(place(step) - other.at) >= WORDS_APART for other in found):
                found.append(Tick(place(step), say.amount(step, unit)))
    return tuple(sorted(found, key=lambda tick: tick.at))


def time_ticks(top: float, place: Place) -> tuple[Tick, ...]:
    """Ticks of an axis in seconds from 0 on; the last one names the unit."""
    unit, size = next((t for t in TIMES if top >= ENOUGH * t[1]), TIMES[-1])
    steps = round_steps(top / size)
    return tuple(Tick(place(s * size), f"{s:g}{unit if s == steps[-1] else ''}") for s in steps)


def count_ticks(top: float, place: Place) -> tuple[Tick, ...]:
    """Ticks of an axis of counts: 0 and two or three more."""
    return tuple(Tick(place(s), say.digits(s)) for s in round_steps(top, 3))


def percent_ticks(place: Place) -> tuple[Tick, ...]:
    """0, half and all."""
    return tuple(Tick(place(share), say.percent(share)) for share in (0.0, 0.5, 1.0))
