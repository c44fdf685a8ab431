"""The load played through the plan, request by request, and the rules against what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hexdsl.ir.plan import Plan, Prediction, RuleCheck, Simulated, Simulation
from hexdsl.ir.spec.rule import Metric, Rule, metrics_in
from hexdsl.passes.serve.goals import aims_of, serves_all
from hexdsl.passes.serve.metrics import LATENCIES, stat_share
from hexdsl.passes.serve.predict import against, unit_of, views_of
from hexdsl.passes.serve.problem import Problem, problem_of
from hexdsl.passes.serve.rules import written_rules
from hexdsl.sim.from_plan import cluster_of, requests_of
from hexdsl.sim.request import ClosedLoop
from hexdsl.sim.result import Result
from hexdsl.sim.simulate import simulate as run
from hexdsl.sim.spec import Cluster
from hexdsl.sim.summary import Interval, interval

SEEDS = 3
FEWEST, MOST = 400, 1500
"""Bounds of the number of requests in one run."""

SPANS = 12
"""A run is so many times as long as a request's predicted time, so that what happens at its ends weighs little."""

RATES = ("goodput", "throughput")
STATS = ("mean", "p50", "p95", "p99")


@dataclass(frozen=True)
class Size:
    """How much is simulated: requests in a run, and runs."""

    requests: int
    seeds: int = SEEDS


def size_of(plan: Plan, requests: int | None = None, seeds: int = SEEDS) -> Size:
    """So many requests as the load sends in `SPANS` times the longest predicted request."""
    if requests is not None:
        return Size(requests, seeds)
    sent = _rate(plan) * _latency(plan).high * SPANS
    return Size(int(min(MOST, max(FEWEST, sent))), seeds)


def simulated(plan: Plan, size: Size) -> Plan:
    """The plan with what a simulation of this size came to; each replica has a vLLM-style scheduler (`hexdsl.sim`)."""
    problem = problem_of(plan)
    lines = {v.replica.name: v.line for v in views_of(plan, problem)}
    cluster, warm = cluster_of(plan, lines), _latency(plan).value
    metrics = _named(problem)
    runs = [_figures(_one(plan, problem, cluster, size, seed), problem, warm, metrics) for seed in range(size.seeds)]
    found = {metric: interval(r[metric] for r in runs) for metric in runs[0]}
    figures = tuple(
        Simulated(metric=str(m), unit=_unit(m), mean=i.mean, low=i.low, high=i.high)
        for m, i in found.items()
        if i.seeds
    )
    rules = (*_load_rule(problem, found), *(_rule(r, found) for r in written_rules(problem.serve) if _is_simulated(r)))
    notes = tuple(_disagreements(plan, found))
    simulation = Simulation(
        requests=size.requests, seeds=size.seeds, warm_up_s=warm, figures=figures, rules=rules, notes=notes
    )
    return plan.with_(simulation=simulation)


def _one(plan: Plan, problem: Problem, cluster: Cluster, size: Size, seed: int) -> Result:
    requests = requests_of(problem.workload, size.requests, seed)
    if problem.arrivals is not None:
        return run(requests, cluster)
    return run(ClosedLoop(requests, sum(r.max_batch for r in plan.replicas)), cluster)


def _rate(plan: Plan) -> float:
    return sum(r.rate_req_per_s for r in plan.replicas)


def _latency(plan: Plan) -> Prediction:
    return next(p for p in plan.predictions if p.metric == "latency")


def _named(problem: Problem) -> tuple[Metric, ...]:
    """The figures that every simulation gives, and those that rules name."""
    usual = [Metric(name=n, stat=s) for n in LATENCIES for s in STATS]
    asked = [m for r in written_rules(problem.serve) for m in metrics_in(r.expr) if m.name in LATENCIES]
    return tuple(dict.fromkeys((*usual, *asked)))


def _figures(result: Result, problem: Problem, warm: float, metrics: tuple[Metric, ...]) -> Mapping[Metric, float]:
    """Figures of the requests that arrived neither in the first nor in the last `warm` seconds, or of all if few."""
    last = float(result.arrival_s[-1]) if len(result.arrival_s) else 0.0
    steady = (result.arrival_s >= warm) & (result.arrival_s <= last - warm)
    rows = steady if problem.arrivals is not None and steady.sum() >= FEWEST / 4 else np.ones_like(steady)
    done = result.done & rows
    values = {"ttft": result.ttft_s[done], "latency": result.latency_s[done]}
    values["tpot"] = result.tpot_s[done & (result.generated > 1)]
    found = {m: _stat(values[m.name], m.stat) for m in metrics}
    served = _served(result, problem, warm)
    tokens = served * float(result.generated[done].mean()) if done.any() else 0.0
    return found | {Metric(name="goodput"): served, Metric(name="throughput"): tokens}


def _served(result: Result, problem: Problem, warm: float) -> float:
    """Requests/s that are answered as they come.

    A closed loop has a rate of its own.  Of arrivals at a known rate, those count that do not pile up: the growth of
    the number of unfinished requests between the first and the last `warm` seconds is taken off.
    """
    if problem.arrivals is None:
        return float(result.done.sum()) / max(result.span_s, 1e-12)
    last = float(result.arrival_s[-1])
    start = min(warm, last / 2)
    arrived = int((result.arrival_s > start).sum())
    growth = _unfinished(result, last) - _unfinished(result, start)
    return problem.arrivals * (1 - min(1.0, max(0.0, growth / max(1, arrived))))


def _unfinished(result: Result, at_s: float) -> int:
    finished = result.done & (result.finish_s <= at_s)
    return int((result.arrival_s <= at_s).sum()) - int(finished.sum())


SUSTAINED = 0.95
"""Share of the arrivals that must be answered as they come; the rest is the noise of a finite run."""


def _load_rule(problem: Problem, found: Mapping[Metric, Interval]) -> tuple[RuleCheck, ...]:
    """That the load does not pile up, where a plan must take all of it."""
    if problem.arrivals is None or not serves_all(aims_of(problem.serve, problem), problem):
        return ()
    limit, served = SUSTAINED * problem.arrivals, found[Metric(name="goodput")].mean
    text = f"{problem.arrivals:g}req/s are served as they arrive"
    return (RuleCheck(text=text, line=0, value=served, limit=limit, unit="req/s", holds=served >= limit),)


def _stat(values: np.ndarray, stat: str) -> float:  # type: ignore[type-arg]
    if len(values) == 0:
        return float("nan")
    return float(values.mean()) if stat == "mean" else float(np.quantile(values, stat_share(stat)))


def _unit(metric: Metric) -> str:
    return {"goodput": "req/s", "throughput": "tok/s"}.get(metric.name, "s")


def _is_simulated(rule: Rule) -> bool:
    names = {m.name for m in metrics_in(rule.expr)}
    return bool(names) and names <= {*LATENCIES, *RATES}


def _rule(rule: Rule, found: Mapping[Metric, Interval]) -> RuleCheck:
    """A rule against the means over the runs."""
    in_requests = unit_of(rule.expr) == "req/s"
    served = Metric(name="goodput")
    source = {m: served if in_requests and m.name == "throughput" else m for m in metrics_in(rule.expr)}
    return against(rule, [{m: found[s].mean for m, s in source.items()}])


def _disagreements(plan: Plan, found: Mapping[Metric, Interval]) -> list[str]:
    """Where the simulated mean of a latency lies outside the predicted range."""
    notes = []
    for prediction in plan.predictions:
        simulated_mean = found.get(Metric(name=prediction.metric, stat="mean"))
        if simulated_mean is None or prediction.low <= simulated_mean.mean <= prediction.high:
            continue
        side = "above" if simulated_mean.mean > prediction.high else "below"
        notes.append(
            f"the simulated mean of {prediction.metric}, {simulated_mean.mean:.3g} s, lies {side} the predicted range, "
            f"{prediction.low:.3g} to {prediction.high:.3g} s"
        )
    return notes
