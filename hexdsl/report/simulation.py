"""What the views say of a simulation: figures, rules, replicas, and where it departs from the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from hexdsl.ir.plan import Plan, Prediction, ReplicaLoad, RuleCheck, Simulated, Simulation
from hexdsl.ir.spec.rule import Compare, Metric, Number, Rule
from hexdsl.ir.spec.serve import Serve
from hexdsl.report import figures as say

LATENCIES = ("ttft", "tpot", "latency")
STATS = ("mean", "p50", "p95", "p99")

NAMES = {
    "goodput": "served as it arrives",
    "throughput": "tokens out",
    "attainment": "requests within every latency rule",
    "slo_goodput": "served within every latency rule",
    "utilisation": "busiest stages at work",
    "kv_peak": "KV cache, fullest",
    "preemptions": "preemptions in a run",
    "cost_per_token": "cost of tokens out",
    "cost_per_request": "cost of 1,000 requests",
}
"""Figures of the whole plan, in the order in which they are said."""

NOISE = 0.05
"""A difference that a finite run may show by itself."""

MANY = 2.0
"""From this ratio on it is said as `2.5 times` and no longer in percent."""


@dataclass(frozen=True)
class Line:
    """A figure in words: its name, the mean over the runs, and both ends of the confidence interval."""

    name: str
    mean: str
    low: str
    high: str


@dataclass(frozen=True)
class Departure:
    """A prediction beside what was simulated."""

    metric: str
    predicted: str
    simulated: str
    ends: tuple[str, str]
    """Of the confidence interval."""
    verdict: str
    mood: str


@dataclass(frozen=True)
class Limit:
    """What a rule asks of a metric: at most `value` seconds, for a share of the requests (None: on average)."""

    text: str
    stat: str
    value: float
    share: float | None


def runs_text(run: Simulation) -> str:
    """How much was simulated."""
    what = "mean and 95 % confidence interval over them" if run.seeds > 1 else "one run has no confidence interval"
    played = f"; played: {run.played}" if run.played else ""
    return f"{say.count(run.seeds, 'run')} of {say.count(run.requests, 'request')}, {what}{played}"


def figure(run: Simulation, name: str) -> Simulated | None:
    """The figure of this name, such as `p95(ttft)`."""
    return next((f for f in run.figures if f.metric == name), None)


def figure_lines(run: Simulation) -> tuple[Line, ...]:
    """The figures of the whole plan that the simulation gave."""
    found = ((words, figure(run, name)) for name, words in NAMES.items())
    return tuple(Line(words, *(value_text(f, v) for v in (f.mean, f.low, f.high))) for words, f in found if f)


def value_text(figure: Simulated, value: float) -> str:
    """A value of a figure: shares in percent, a request's cost by the thousand, latencies and rates in their units."""
    if figure.metric == "preemptions":
        return say.digits(float(f"{value:.3g}"))
    if not figure.unit:
        return say.percent(value)
    return say.rough(1000 * value, "usd") if figure.metric == "cost_per_request" else say.rough(value, figure.unit)


def latency_cells(run: Simulation, name: str) -> tuple[str, ...]:
    """Mean and percentiles of a latency, each with half of its confidence interval."""
    return tuple(_cell(figure(run, f"{stat}({name})")) for stat in STATS)


def _cell(figure: Simulated | None) -> str:
    if figure is None:
        return "-"
    half = (figure.high - figure.low) / 2
    spread = f" ±{say.rough(half, figure.unit)}" if half else ""
    return f"{say.rough(figure.mean, figure.unit)}{spread}"


def verdict(rule: RuleCheck, run: Simulation) -> str:
    """By how much a simulated rule is broken or kept, and whether the runs leave that open."""
    apart = say.margin(rule)
    if apart is None or rule.value is None:
        return "holds" if rule.holds else "broken"
    many = rule.value > 0 and apart + 1 >= MANY
    text = f"broken: {apart + 1:.2g} times the limit" if many else f"broken by {say.percent(apart)}"
    text = f"{say.percent(apart)} to spare" if rule.holds else text
    return f"{text}, within the runs' spread" if _open(rule, run) else text


def mood(rule: RuleCheck, run: Simulation) -> str:
    """`bad` where a rule is broken, `warn` where the confidence interval reaches past its limit, else `good`."""
    if not rule.holds:
        return "bad"
    return "warn" if _open(rule, run) else "good"


def _open(rule: RuleCheck, run: Simulation) -> bool:
    found = figure(run, rule.text.partition(" ")[0])
    return found is not None and rule.limit is not None and found.low < rule.limit < found.high


def line_of(rule: RuleCheck) -> str:
    """The rule's line in the spec; empty for what the load itself asks."""
    return str(rule.line or "")


def broken(run: Simulation) -> int:
    """How many rules the simulation breaks."""
    return sum(not rule.holds for rule in run.rules)


def rules_words(run: Simulation) -> str:
    """`2 of 3 rules broken`, `all rules hold`."""
    if not run.rules:
        return "simulated"
    return f"{broken(run)} of {say.count(len(run.rules), 'rule')} broken" if broken(run) else "all rules hold"


def load_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    """One row a replica, or for replicas of one shape in large plans: requests, work, KV cache, preemptions."""
    assert plan.simulation is not None
    loads = {load.replica: load for load in plan.simulation.replicas}
    for alike in say.alike(plan.replicas):
        here = [loads[r.name] for r in alike if r.name in loads]
        if here:
            yield (say.names(alike), *_load_cells(here))


def _load_cells(loads: Sequence[ReplicaLoad]) -> tuple[str, ...]:
    requests = sum(load.requests for load in loads)
    busy, used = (fmean(getattr(load, name) for load in loads) for name in ("busy", "kv_mean"))
    peak, preempted = max(load.kv_peak for load in loads), sum(load.preemptions for load in loads)
    shares = map(say.percent, (busy, used, peak))
    return (say.digits(float(f"{requests:.4g}")), *shares, say.digits(float(f"{preempted:.3g}")))


def departures(plan: Plan) -> Iterator[Departure]:
    """Each prediction that the simulation can be held against: latencies, and what is served."""
    assert plan.simulation is not None
    names = {p.metric for p in plan.predictions}
    for p in plan.predictions:
        if p.metric in ("throughput", "capacity") and "goodput" in names:
            continue  # what the machines could serve, not what comes
        found = figure(plan.simulation, p.metric) or figure(plan.simulation, f"mean({p.metric})")
        if found is not None:
            yield _departure(p, found)


def _departure(p: Prediction, found: Simulated) -> Departure:
    ends = (say.rough(found.low, p.unit), say.rough(found.high, p.unit))
    predicted = say.middle(p) if say.is_exact(p) else say.interval(p)
    return Departure(found.metric, predicted, say.rough(found.mean, p.unit), ends, *_apart(p, found))


def _apart(p: Prediction, found: Simulated) -> tuple[str, str]:
    """How far a simulated mean is from the predicted range, and whether that may be chance (`warn`) or not (`bad`)."""
    if p.low <= found.mean <= p.high:
        return "within the range", "good"
    end, side = (p.high, "above") if found.mean > p.high else (p.low, "below")
    ratio = found.mean / end if end else float("inf")
    whole, top = ("it", "it") if say.is_exact(p) else ("its range", "its upper end")
    text = f"{ratio:.2g} times {top}" if ratio >= MANY else f"{say.percent(abs(ratio - 1))} {side} {whole}"
    chance = found.low <= end <= found.high or abs(found.mean - end) <= NOISE * abs(end)
    return text, "warn" if chance else "bad"


def limits(plan: Plan, name: str) -> tuple[Limit, ...]:
    """The upper limits that rules set to this latency alone, such as `p95(ttft) <= 400ms`."""
    return tuple(limit for rule in _written(plan) if (limit := _limit(rule, name)) is not None)


def _written(plan: Plan) -> tuple[Rule, ...]:
    serve = plan.workflow
    if not isinstance(serve, Serve):
        return ()
    return (*serve.rules, *(rule for phase in serve.phase for rule in phase.rules))


def _limit(rule: Rule, name: str) -> Limit | None:
    expr = rule.expr
    if not isinstance(expr, Compare) or expr.op not in ("<=", "<", ">=", ">"):
        return None
    metric, limit = (expr.left, expr.right) if expr.op[0] == "<" else (expr.right, expr.left)
    if not isinstance(metric, Metric) or not isinstance(limit, Number) or metric.name != name:
        return None
    share = 1.0 if metric.stat == "max" else int(metric.stat[1:]) / 100 if metric.stat.startswith("p") else None
    return Limit(rule.text, metric.stat, limit.value, share)


def share_within(run: Simulation, name: str, seconds: float) -> float | None:
    """The share of the requests whose latency is at most so many seconds; None where it was not simulated."""
    found = next((d for d in run.distributions if d.metric == name), None)
    return float(np.interp(seconds, found.values, run.shares, left=0.0)) if found else None
