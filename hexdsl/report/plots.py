"""The page's plots of a simulation: latencies as distributions, and each replica over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hexdsl.ir.plan import Distribution, Plan, Series, Simulation
from hexdsl.report import figures as say
from hexdsl.report.charts import (
    EDGE,
    FLOOR,
    LABEL_STEP,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    Curve,
    Mark,
    Place,
    Tick,
    area_path,
    count_ticks,
    line_path,
    linear,
    log_ticks,
    logarithmic,
    percent_ticks,
    step_path,
    time_ticks,
)
from hexdsl.report.simulation import Limit, limits, share_within

WORDS = {"ttft": "Time to first token", "tpot": "Time per output token", "latency": "Whole request"}
WIDEST = 1e6
"""Largest ratio between the ends of a latency axis."""


@dataclass(frozen=True)
class Plot:
    """A chart with its words: `about` is for those who cannot see it, `notes` stand below."""

    title: str
    about: str
    chart: Chart
    notes: tuple[str, ...] = ()


def latency_plots(plan: Plan) -> tuple[Plot, ...]:
    """The share of the requests within each latency, with what rules allow."""
    run = plan.simulation
    return tuple(_latency(d, run, limits(plan, d.metric)) for d in run.distributions) if run else ()


def _latency(found: Distribution, run: Simulation, allowed: Sequence[Limit]) -> Plot:
    values, shares = found.values, run.shares
    x, ends = _scale([values[1], values[-1], *(limit.value for limit in allowed)])
    y = linear(0, 1, FLOOR, TOP)
    across = log_ticks(*ends, x, found.unit)
    curve = Curve(line_path(values, shares, x, y), "line")
    marks = tuple(_mark(limit, i, x, y, found.unit) for i, limit in enumerate(allowed))
    half, most = (say.rough(_at(found, shares, share), found.unit) for share in (0.5, 0.95))
    about = f"half of the requests within {half}, 95% within {most}, all within {say.rough(values[-1], found.unit)}"
    notes = tuple(_kept(run, found, limit) for limit in allowed)
    return Plot(WORDS.get(found.metric, found.metric), about, Chart((curve,), across, percent_ticks(y), marks), notes)


def _scale(values: Sequence[float]) -> tuple[Place, tuple[float, float]]:
    """A logarithmic axis with room at both ends."""
    high = max(values) * 1.1 or 1.0
    low = max(min(values) / 1.1, high / WIDEST)
    return logarithmic(low, high, LEFT, WIDTH - RIGHT), (low, high)


def _at(found: Distribution, shares: Sequence[float], share: float) -> float:
    return found.values[min(range(len(shares)), key=lambda i: abs(shares[i] - share))]


def _kept(run: Simulation, found: Distribution, limit: Limit) -> str:
    within = share_within(run, found.metric, limit.value) or 0.0
    return f"{say.percent(within)} of the requests within {say.amount(limit.value, found.unit)}"


def _mark(limit: Limit, index: int, x: Place, y: Place, unit: str) -> Mark:
    at = round(x(limit.value), 1)
    right = at > LEFT + EDGE * (WIDTH - LEFT)
    text = f"{limit.stat or 'each'} \u2264 {say.amount(limit.value, unit)}"
    point = None if limit.share is None else round(y(limit.share), 1)
    return Mark(at, text, "end" if right else "start", TOP - 6 + LABEL_STEP * index, point)


def load_plots(plan: Plan) -> Iterator[tuple[str, Plot, Plot]]:
    """Replicas by name: their requests over time, and how full and how busy they are."""
    run = plan.simulation
    if run is None:
        return
    for found in run.series:
        yield _whose(found), _requests(found, run.slice_s), _fullness(found, run.slice_s)


def _whose(found: Series) -> str:
    first, last = found.replicas[0], found.replicas[-1]
    return first if len(found.replicas) == 1 else f"{first} to {last}, each on average"


def _over_time(slices: int, slice_s: float) -> tuple[Place, tuple[Tick, ...]]:
    """Slice number to place, and the ticks of the seconds."""
    seconds = linear(0, slices * slice_s, LEFT, WIDTH - RIGHT)
    return lambda i: seconds(i * slice_s), time_ticks(slices * slice_s, seconds)


def _requests(found: Series, slice_s: float) -> Plot:
    both = tuple(a + b for a, b in zip(found.waiting, found.running, strict=True))
    x, across = _over_time(len(both), slice_s)
    top = max(1.0, *both)
    y = linear(0, top * 1.05, FLOOR, TOP)
    curves = (Curve(area_path(both, x, y), "queued"), Curve(area_path(found.running, x, y), "running"))
    most = (say.digits(float(f"{max(values):.3g}")) for values in (found.running, found.waiting))
    about = "at most {} requests running and {} queued".format(*most)
    return Plot("Requests", about, Chart(curves, across, count_ticks(top, y)))


def _fullness(found: Series, slice_s: float) -> Plot:
    x, across = _over_time(len(found.kv), slice_s)
    y = linear(0, 1, FLOOR, TOP)
    curves = (Curve(area_path(found.kv, x, y), "filled"), Curve(step_path(found.busy, x, y), "line"))
    busy = sum(found.busy) / len(found.busy)
    about = f"KV cache at most {say.percent(max(found.kv))} full, busiest stage at work {say.percent(busy)} of the time"
    return Plot("KV cache and work", about, Chart(curves, across, percent_ticks(y)))
