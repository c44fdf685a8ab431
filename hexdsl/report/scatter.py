"""Where the points of a frontier are drawn: one chart for each pair of axes, coloured by a third."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from hexdsl.ir.front import Axis, Front
from hexdsl.report import figures as say
from hexdsl.report.charts import Place, Tick, line_path, linear, log_ticks, logarithmic, round_steps

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 74, 26, 30, 48
FLOOR = HEIGHT - BOTTOM
RADIUS = 6.0
SHADES = 5
"""Colours from the best to the worst of the axis that is shown as colour."""

SPREAD = 8.0
"""An axis whose values differ by more than this factor is logarithmic."""

ROOM = 1.08
"""How far an axis goes beyond its last value."""

STEPS = 5
"""Ticks of an axis above zero, at most."""

LETTER, LINE = 6.5, 12.0
"""Width and height of a digit of a label."""


@dataclass(frozen=True)
class Scale:
    """An axis of a chart: its words, its ticks, and where values lie."""

    title: str
    place: Place
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Dot:
    """A point: its place, the number that it has in the tables, where that is written, its shade, and words."""

    x: float
    y: float
    number: int
    label_x: float
    label_y: float
    shade: int
    about: str


@dataclass(frozen=True)
class Scatter:
    """A chart of two axes.  `edge` joins the points that none beats in these two alone."""

    title: str
    about: str
    across: Scale
    up: Scale
    dots: tuple[Dot, ...]
    edge: str
    colour: str
    """The axis that the colours tell; empty where there is no third one."""
    key: tuple[str, ...]
    """What each colour stands for."""


def scatters(front: Front) -> Iterator[Scatter]:
    """A chart for each pair of axes."""
    for across, up in combinations(range(len(front.axes)), 2):
        third = next((i for i in range(len(front.axes)) if i not in (across, up)), None)
        yield _scatter(front, across, up, third)


def _scatter(front: Front, across: int, up: int, third: int | None) -> Scatter:
    axes, columns = front.axes, tuple(zip(*(p.values for p in front.points), strict=True))
    x = _scale(axes[across], columns[across], LEFT, WIDTH - RIGHT)
    y = _scale(axes[up], columns[up], FLOOR, TOP)
    places = [(x.place(a), y.place(b)) for a, b in zip(columns[across], columns[up], strict=True)]
    shades, key = shaded(columns[third], axes[third]) if third is not None else ((0,) * len(places), ())
    dots = zip(places, labels(places), shades, front.points, strict=True)
    return Scatter(
        title=f"{axes[up].name} against {axes[across].name}",
        about=f"{say.count(len(places), 'plan')}; the table on this page has the figures",
        across=x,
        up=y,
        dots=tuple(
            Dot(*at, number, *label, shade, _about(axes, point.values, number))
            for number, (at, label, shade, point) in enumerate(dots, 1)
        ),
        edge=_edge(axes[across], axes[up], columns[across], columns[up], x.place, y.place),
        colour="" if third is None else axes[third].name,
        key=key,
    )


def _about(axes: Sequence[Axis], values: Sequence[float], number: int) -> str:
    figures = (f"{a.name} {said(v, a)}" for a, v in zip(axes, values, strict=True))
    return f"{number}: {', '.join(figures)}"


def said(value: float, axis: Axis) -> str:
    """A value of an axis: three digits, but money and whole numbers as they are."""
    return say.amount(value, axis.unit) if axis.unit in ("", "usd/h") else say.rough(value, axis.unit)


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
    """From zero, or logarithmic where the values lie far apart."""
    low, high = min(values), max(values)
    title = f"{axis.name}, {'less' if axis.sense == 'minimize' else 'more'} is better"
    if low > 0 and high > SPREAD * low:
        place = logarithmic(low / ROOM, high * ROOM, start, end)
        return Scale(f"{title}, logarithmic", place, log_ticks(low / ROOM, high * ROOM, place, axis.unit))
    top = high * ROOM or 1.0
    place = linear(0, top, start, end)
    return Scale(title, place, tuple(Tick(place(s), said(s, axis) if s else "0") for s in round_steps(top, STEPS)))


def shaded(values: Sequence[float], axis: Axis) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The shade of each value, 0 for the best, and what the shades stand for: equal steps (ratios where far apart)."""
    low, high = min(values), max(values)
    if not high > low * (1 + 1e-9):
        return (0,) * len(values), (said(low, axis),)
    ratios = low > 0 and high > SPREAD * low
    share = logarithmic(low, high, 0.0, 1.0) if ratios else linear(low, high, 0.0, 1.0)
    steps = [min(SHADES - 1, int(share(v) * SHADES)) for v in values]
    parts = [i / SHADES for i in range(SHADES + 1)]
    ends = [low * (high / low) ** part if ratios else low + (high - low) * part for part in parts]
    words = [f"{say.rough(a, axis.unit)} to {say.rough(b, axis.unit)}" for a, b in pairwise(ends)]
    if axis.sense == "minimize":
        return tuple(steps), tuple(words)
    return tuple(SHADES - 1 - s for s in steps), tuple(reversed(words))


def labels(places: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Where the number of each point is written: beside it, out of the way of other points and numbers."""
    taken: list[tuple[float, float]] = []
    for number, (x, y) in enumerate(places, 1):
        half = LETTER * len(str(number)) / 2
        out, off = RADIUS + 2 + half, RADIUS + LINE / 2
        sides = [(x + dx, y + dy) for dx, dy in ((out, -off), (-out, -off), (out, off), (-out, off), (0.0, -off - 3))]
        others = [p for p in places if p != (x, y)]
        taken.append(min(sides, key=lambda side: _crowding(side, half, others, taken)))
    return tuple((round(x, 1), round(y + 4, 1)) for x, y in taken)


def _crowding(
    at: tuple[float, float], half: float, points: Sequence[tuple[float, float]], words: Sequence[tuple[float, float]]
) -> float:
    """How many points and numbers a number there would lie on, and whether it would leave the chart."""
    on_points = sum(abs(at[0] - x) < half + RADIUS and abs(at[1] - y) < LINE / 2 + RADIUS for x, y in points)
    on_words = sum(abs(at[0] - x) < 2 * half + 2 and abs(at[1] - y) < LINE for x, y in words)
    outside = not (LEFT < at[0] < WIDTH and LINE / 2 < at[1] < FLOOR)
    return on_points + 2 * on_words + 4 * outside


def _edge(a: Axis, b: Axis, xs: Sequence[float], ys: Sequence[float], x: Place, y: Place) -> str:
    """The line through the points that no other beats in two axes, in the order of the first."""
    points = sorted(set(zip(xs, ys, strict=True)))
    kept = [p for p in points if not any(_beats(a, b, q, p) for q in points)]
    return line_path([p[0] for p in kept], [p[1] for p in kept], x, y) if len(kept) > 1 else ""


def _beats(a: Axis, b: Axis, one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and not a.worse(one[0], other[0]) and not b.worse(one[1], other[1])


def gap(value: float, bound: float | None) -> float | None:
    """Relative distance of a value from its bound."""
    if bound is None or not math.isfinite(bound):
        return None
    return abs(value - bound) / max(abs(value), abs(bound), 1e-12)
