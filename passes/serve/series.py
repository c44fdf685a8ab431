"""What a plan keeps of its simulation for the views: series over time, distributions, loads, SLO attainment and cost.

A request attains its SLOs where it alone keeps every latency rule, whatever statistic the rule names.  `slo_goodput` is
the rate of such requests (DistServe, Zhong et al., OSDI 2024, section 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hexdsl.ir.base import six_digits
from hexdsl.ir.plan import Distribution, Plan, ReplicaLoad, Series, Simulated
from hexdsl.ir.spec.rule import Metric, metrics_in
from hexdsl.passes.serve.layers import Bools, Floats
from hexdsl.passes.serve.metrics import stat_share
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.rules import rules_of, truth
from hexdsl.sim.result import Result
from hexdsl.sim.summary import Interval, interval, series

SLICES = 60
"""Points of a series."""

LINES = 8
"""Series of one plan; where there are more replicas, neighbours share one."""

SHARES = (0.0, 0.01, *(round(0.025 * i, 3) for i in range(1, 40)), 0.99, 0.995, 0.999, 1.0)
"""Where distributions are given: every 2.5 %, and the ends closer."""

UNITS = {
    "attainment": "", "slo_goodput": "req/s", "utilisation": "", "kv_peak": "", "preemptions": "",
    "cost_per_token": "usd/tok", "cost_per_request": "usd/req",
}  # fmt: skip
COUNTS = ("preemptions",)
"""Figures without a unit that are no shares."""

PARTS = ("slo_goodput", "preemptions")
"""Figures that add up over replicas."""


@dataclass(frozen=True)
class Run:
    """What is kept of one run."""

    figures: Mapping[str, float]
    distributions: Mapping[str, Floats]
    loads: Floats
    """One row a replica: requests, busy, mean and peak of the KV cache, preemptions."""
    latencies: tuple[Mapping[str, float], ...]
    """What rules name, for each replica over the requests that ended there."""
    slice_s: float
    series: tuple[Series, ...]


def run_of(result: Result, rows: Bools, rates: Mapping[Metric, float], plan: Plan, problem: Problem) -> Run:
    """Reads a run.  `rows` are the requests that count; `rates` holds the run's goodput and throughput."""
    loads = np.array(list(_loads(result)))
    figures = {"utilisation": loads[:, 1].mean(), "kv_peak": loads[:, 3].max(), "preemptions": loads[:, 4].sum()}
    figures |= _attained(result, rows, rates, problem) | _costs(rates, plan, problem)
    distributions = {name: np.quantile(values, SHARES) for name, values in _latencies(result, rows) if len(values)}
    latencies = tuple(_rule_latencies(result, rows & (result.replica == i), problem) for i in range(len(loads)))
    return Run(figures, distributions, loads, latencies, result.span_s / SLICES, tuple(_series(result)))


def _rule_latencies(result: Result, rows: Bools, problem: Problem) -> dict[str, float]:
    """The latencies of some requests that the rules name."""
    values = dict(_latencies(result, rows))
    named = dict.fromkeys(m for r in rules_of(problem.serve).point for m in metrics_in(r.expr))
    shares = {m: 0.0 if m.stat in ("", "mean") else stat_share(m.stat) for m in named}
    return {
        str(m): float(np.quantile(values[m.name], share) if share else values[m.name].mean())
        for m, share in shares.items()
        if len(values[m.name])
    }


def kept(runs: Sequence[Run], plan: Plan) -> dict[str, Any]:
    """The fields of a `Simulation` that views draw: series of the first run, all else as means over the runs."""
    names = dict.fromkeys(name for run in runs for name in run.distributions)
    means = {n: np.mean([r.distributions[n] for r in runs if n in r.distributions], axis=0) for n in names}
    return {
        "replicas": tuple(_replica(r.name, i, runs) for i, r in enumerate(plan.replicas)),
        "shares": SHARES,
        "distributions": tuple(Distribution(metric=n, unit="s", values=_short(v, 4)) for n, v in means.items()),
        "slice_s": runs[0].slice_s,
        "series": runs[0].series,
    }


def figures(runs: Sequence[Run], share: float = 1.0) -> tuple[Simulated, ...]:
    """Attainment, utilisation and cost with their confidence intervals; those of shares end at 0 and 1.

    `share` is the part of the plan's load that was played: rates and counts are those of all of it.
    """
    scale = {name: 1 / share if name in PARTS else 1.0 for name in UNITS}
    found = ((name, [scale[name] * run.figures[name] for run in runs if name in run.figures]) for name in UNITS)
    return tuple(_figure(name, values) for name, values in found if values)


def _figure(name: str, values: Sequence[float]) -> Simulated:
    found, unit = interval(values), UNITS[name]
    top = 1.0 if not unit and name not in COUNTS else float("inf")
    return simulated_figure(name, unit, found, top)


def simulated_figure(metric: str, unit: str, found: Interval, top: float = float("inf")) -> Simulated:
    """A figure with its interval, which ends at 0 and at `top`; as it is read back from JSON."""
    low, high = max(0.0, found.low), min(top, found.high)
    return Simulated(metric=metric, unit=unit, mean=six_digits(found.mean), low=six_digits(low), high=six_digits(high))


def _replica(name: str, index: int, runs: Sequence[Run]) -> ReplicaLoad:
    requests, busy, mean, _, preemptions = np.mean([run.loads[index] for run in runs], axis=0).tolist()
    peak = float(max(run.loads[index][3] for run in runs))
    names = dict.fromkeys(name for run in runs for name in run.latencies[index])
    latencies = {n: float(np.mean([r.latencies[index][n] for r in runs if n in r.latencies[index]])) for n in names}
    return ReplicaLoad(
        replica=name, requests=requests, busy=busy, kv_mean=mean, kv_peak=peak, preemptions=preemptions,
        latencies={n: six_digits(x) for n, x in latencies.items()},
    )  # fmt: skip


def _loads(result: Result) -> Iterator[tuple[float, ...]]:
    for i, replica in enumerate(result.replicas):
        here = result.replica == i
        finished, preempted = (here & result.done).sum(), result.preemptions[here].sum()
        yield float(finished), max(replica.utilisation), replica.kv_mean, replica.kv_peak, float(preempted)


def _latencies(result: Result, rows: Bools) -> Iterator[tuple[str, Floats]]:
    done = result.done & rows
    yield "ttft", result.ttft_s[done]
    yield "tpot", result.tpot_s[done & (result.generated > 1)]
    yield "latency", result.latency_s[done]


def _attained(result: Result, rows: Bools, rates: Mapping[Metric, float], problem: Problem) -> dict[str, float]:
    """The share of the requests that count, and the requests/s, that keep every latency rule; nothing without rules."""
    rules = rules_of(problem.serve).point
    if not rules or not rows.any():
        return {}
    values = {"ttft": result.ttft_s, "tpot": result.tpot_s, "latency": result.latency_s}
    good = np.logical_and.reduce([result.done, *(truth(r.expr, lambda m: values[m.name]) for r in rules)])
    share, served = float(good[rows].mean()), rates[Metric(name="goodput")]
    rate = share * served if problem.arrivals is None else min(share * _arriving(result), served)
    return {"attainment": share, "slo_goodput": rate}


def _arriving(result: Result) -> float:
    """Requests/s that came."""
    return len(result.arrival_s) / max(float(np.ptp(result.arrival_s)), 1e-12)


def _costs(rates: Mapping[Metric, float], plan: Plan, problem: Problem) -> dict[str, float]:
    """What a token of an answer and a request cost; nothing where a GPU in use has no price, or nothing was served."""
    prices = {c.name: c.usd_per_h for c in problem.classes}
    used = {plan.machine(s.machine).group for r in plan.replicas for s in r.stages}
    tokens, requests = rates[Metric(name="throughput")], rates[Metric(name="goodput")]
    if not all(prices[group] for group in used) or not tokens > 0:
        return {}
    usd_per_s = plan.cost_usd_per_h / 3600
    return {"cost_per_token": usd_per_s / tokens, "cost_per_request": usd_per_s / requests}


def _series(result: Result) -> Iterator[Series]:
    found = series(result, SLICES)
    for part in np.array_split(np.arange(len(result.replicas)), min(LINES, len(result.replicas))):
        yield Series(
            replicas=tuple(result.replicas[i].name for i in part),
            waiting=_short(found.waiting[part].mean(axis=0).round(2), 3),
            running=_short(found.running[part].mean(axis=0).round(2), 3),
            kv=_share(found.kv[part].mean(axis=0)),
            busy=_share(found.busy[part].mean(axis=0)),
        )


def _short(values: Floats, digits: int) -> tuple[float, ...]:
    return tuple(float(f"{v:.{digits}g}") for v in values.tolist())


def _share(values: Floats) -> tuple[float, ...]:
    return tuple(min(1.0, max(0.0, round(v, 3))) for v in values.tolist())
