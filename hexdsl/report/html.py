"""A plan as one self-contained HTML page: no scripts, nothing loaded, readable on a phone and on paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hexdsl.ir.plan import Plan, Prediction, Replica
from hexdsl.report import charts, plots, simulation
from hexdsl.report import figures as say
from hexdsl.report.drawing import COLOURS, drawing
from hexdsl.report.explain import compared
from hexdsl.report.topology import joins

if TYPE_CHECKING:
    from hexdsl.passes.serve.answers import Answers


@dataclass(frozen=True)
class RangeChart:
    """Places on a scale from 0 to 100: the range, the value (None where only the range is said), the user's limit."""

    low: float
    high: float
    value: float | None
    limit: float | None
    limit_text: str = ""


@dataclass(frozen=True)
class HeldBy:
    """Replicas of one shape, with the colour's number of the first."""

    replicas: tuple[Replica, ...]
    color: int

    @property
    def first(self) -> Replica:
        return self.replicas[0]


def plan_html(plan: Plan, answers: Answers | None = None) -> str:
    """The page about a plan, with `answers` also beside other plans.  Everything from the spec is escaped."""
    page = environment().get_template("report.html.j2")
    return page.render(
        plan=plan,
        say=say,
        drawing=drawing(plan),
        joins=joins(plan),
        held=_held(plan),
        chart=range_chart,
        scaled=scaled,
        played=simulation,
        frame=charts,
        latency_plots=plots.latency_plots(plan),
        load_plots=tuple(plots.load_plots(plan)),
        compared=tuple((title, tuple(lines)) for title, lines in compared(answers)),
    )


def environment() -> Environment:
    return Environment(
        loader=PackageLoader("hexdsl.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_printable,
    )  # fmt: skip


def _printable(value: Any) -> Any:
    """Plain strings lose control characters; finished markup stays as it is."""
    return say.clean(value) if type(value) is str else value


def _held(plan: Plan) -> tuple[HeldBy, ...]:
    number = {r.name: i for i, r in enumerate(plan.replicas)}
    return tuple(HeldBy(alike, number[alike[0].name] % COLOURS) for alike in say.alike(plan.replicas))


def range_chart(p: Prediction, plan: Plan) -> RangeChart:
    """Where a prediction's range, value and limit lie on a scale that begins at zero."""
    limits = (r.limit for r in plan.rules if say.prediction_of(r, plan) == p and r.unit == p.unit)
    limit = next((x for x in limits if x is not None), None)
    top = 1.08 * max(abs(x) for x in (p.low, p.value, p.high, limit or 0)) or 1.0
    value = None if say.range_only(p) else scaled(p.value, top)
    low, high = scaled(p.low, top), scaled(p.high, top)
    if limit is None:
        return RangeChart(low, high, value, None)
    return RangeChart(low, high, value, scaled(limit, top), say.amount(limit, p.unit))


def scaled(value: float, top: float) -> float:
    """A value as a place from 0 to 100, with two decimals."""
    return round(100 * min(1.0, max(0.0, value / top)), 2) if top else 0.0
