"""The load played through the plan, request by request, and the rules against what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hexdsl.ir.plan import Plan, Prediction, RuleCheck, Simulation
from hexdsl.ir.spec.rule import Metric, Rule, metrics_in
from hexdsl.passes.serve.goals import aims_of, serves_all
from hexdsl.passes.serve.handover import ways_of
from hexdsl.passes.serve.layers import Bools
from hexdsl.passes.serve.metrics import LATENCIES, stat_share
from hexdsl.passes.serve.predict import against, unit_of, views_of
from hexdsl.passes.serve.problem import Problem, problem_of
from hexdsl.passes.serve.rules import written_rules
from hexdsl.passes.serve.sample import sample_of
from hexdsl.passes.serve.series import figures as figures_of
from hexdsl.passes.serve.series import kept, run_of, simulated_figure
from hexdsl.sim.from_plan import PLAIN, Scenario, cluster_of, requests_of
from hexdsl.sim.progress import Watched
from hexdsl.sim.request import ClosedLoop, Replay, Request
from hexdsl.sim.result import Result
from hexdsl.sim.simulate import simulate as run
from hexdsl.sim.spec import Cluster
from hexdsl.sim.summary import Interval, interval

SEEDS = 3
FEWEST, MOST = 1000, 3000
"""Bounds of the number of requests in one run."""

SPANS = 12
"""A run is so many times as long as a request's predicted time, so that what happens at its ends weighs little."""

RATES = ("goodput", "throughput")
STATS = ("mean", "p50", "p95", "p99")


@dataclass(frozen=True)
class Size:
    """How much is simulated: requests in a run, and runs; and what is played, where it is not the load as planned."""

    requests: int
    seeds: int = SEEDS
    scenario: Scenario = PLAIN


def size_of(plan: Plan, requests: int | None = None, seeds: int = SEEDS) -> Size:
    """As many requests as the load sends in `SPANS` times the longest predicted request, within bounds."""
    if requests is not None:
        return Size(requests, seeds)
    return Size(int(min(MOST, max(FEWEST, _sent(plan)))), seeds)


def _sent(plan: Plan) -> float:
    """Requests that a run of full length takes."""
    return _rate(plan) * _latency(plan).high * SPANS


Tell = Callable[[int, int], None]
"""Is told the number of the run, and how many of its requests have ended."""


def simulated(plan: Plan, size: Size, tell: Tell = lambda *_: None) -> Plan:
    """The plan with what a simulation of this size came to; each replica has a vLLM-style scheduler (`hexdsl.sim`).

    Of a plan with more replicas than so many requests keep busy, a part is simulated.
    """
    problem = problem_of(plan)
    whole = size.scenario != PLAIN or bool(plan.handovers)
    sample = sample_of(plan, 1.0 if whole else size.requests / max(_sent(plan), 1e-9))
    part = sample.plan
    lines = {v.replica.name: v.line for v in views_of(part, problem)}
    cluster = cluster_of(part, lines, ways=ways_of(part, problem))
    warm = _latency(plan).value
    metrics, taken = _named(problem), _offered(plan, problem, size.scenario) * sample.share
    runs, seen = [], []
    for seed in range(size.seeds):
        result = _one(part, problem, taken, cluster, size, seed, partial(tell, seed))
        runs.append(_figures(result, taken, problem, warm, metrics))
        seen.append(run_of(result, _counted(result, problem, warm), runs[-1], part, problem))
    found = {m: interval(r[m] / (sample.share if m.name in RATES else 1.0) for r in runs) for m in runs[0]}
    figures = tuple(simulated_figure(str(m), _unit(m), i) for m, i in found.items() if i.seeds)
    rules = _load_rule(problem, taken / sample.share, found) + tuple(
        _rule(r, found) for r in written_rules(problem.serve) if _is_simulated(r)
    )
    notes = tuple(_disagreements(plan, found))
    simulation = Simulation(
        requests=size.requests, seeds=size.seeds, warm_up_s=warm,
        figures=(*figures, *figures_of(seen, sample.share)), rules=rules,
        notes=notes if part is plan else (*notes, sample.note), **kept(seen, part),
    )  # fmt: skip
    return plan.with_(simulation=simulation)


def simulate(plan: Plan) -> Plan:
    """Plays the load through the plan, request by request, and holds the rules against what came of it.

    Needs `predictions` and `routes`; gives `simulation`.
    """
    return simulated(plan, size_of(plan))


def _one(
    plan: Plan, problem: Problem, taken: float, cluster: Cluster, size: Size, seed: int, ended: Callable[[int], None]
) -> Result:
    requests = _admitted(problem, taken, size, seed)
    span = len(requests) / max(_rate(plan), 1e-9) if problem.arrivals is None else requests[-1].arrival_s
    cluster = replace(cluster, failures=size.scenario.failures_in(seed, span))
    closed = ClosedLoop(requests, _clients(plan, problem))
    return run(Watched(closed if problem.arrivals is None else Replay(requests), ended), cluster)


def _clients(plan: Plan, problem: Problem) -> int:
    """Clients of a closed loop: a seat each; over phases, if first tokens have limits, no more than are kept busy."""
    seats = sum(r.max_batch for r in plan.replicas if r.role != "prefill")
    named = (m.name for r in written_rules(problem.serve) for m in metrics_in(r.expr))
    limited = bool(plan.handovers) and any(name in ("ttft", "latency") for name in named)
    busy = _rate(plan) * _latency(plan).value if limited else math.inf
    return max(1, math.ceil(min(seats, busy)))


def _admitted(problem: Problem, taken: float, size: Size, seed: int) -> tuple[Request, ...]:
    """The requests of a run: as many as are taken on, of a trace an even share where that is less than what arrives."""
    if size.scenario.trace is None and problem.arrivals is not None:
        return requests_of(problem.workload, size.requests, seed, rate=taken)
    everyone = size.scenario.requests(problem.workload, size.requests, seed, size.seeds)
    share = 1.0 if problem.arrivals is None else taken / problem.arrivals
    if share >= 1 - 1e-6:
        return everyone
    drawn = np.random.default_rng((seed, 1)).random(len(everyone))
    return tuple(r for r, x in zip(everyone, drawn.tolist(), strict=True) if x < share)


def _offered(plan: Plan, problem: Problem, scenario: Scenario) -> float:
    """Requests/s that the plan takes on; 0 for a closed loop, which has a rate of its own."""
    if problem.arrivals is None:
        return 0.0
    whole = not scenario.as_planned or serves_all(aims_of(problem.serve, problem), problem)
    return problem.arrivals if whole else min(problem.arrivals, _rate(plan))


def _rate(plan: Plan) -> float:
    return plan.served_req_per_s


def _latency(plan: Plan) -> Prediction:
    return next(p for p in plan.predictions if p.metric == "latency")


def _named(problem: Problem) -> tuple[Metric, ...]:
    """The figures that every simulation gives, and those that rules name."""
    usual = [Metric(name=n, stat=s) for n in LATENCIES for s in STATS]
    asked = [m for r in written_rules(problem.serve) for m in metrics_in(r.expr) if m.name in LATENCIES]
    return tuple(dict.fromkeys((*usual, *asked)))


def _figures(
    result: Result, taken: float, problem: Problem, warm: float, metrics: tuple[Metric, ...]
) -> Mapping[Metric, float]:
    """Figures of a run."""
    done = result.done & _counted(result, problem, warm)
    values = {"ttft": result.ttft_s[done], "latency": result.latency_s[done]}
    values["tpot"] = result.tpot_s[done & (result.generated > 1)]
    found = {m: _stat(values[m.name], m.stat) for m in metrics}
    served = _served(result, taken, problem, warm)
    tokens = served * float(result.generated[done].mean()) if done.any() else 0.0
    return found | {Metric(name="goodput"): served, Metric(name="throughput"): tokens}


def _counted(result: Result, problem: Problem, warm: float) -> Bools:
    """The requests that arrived neither in the first nor in the last `warm` seconds, or all if few.

    The clients of a closed loop all begin at once, which takes twice as long to even out.
    """
    last = float(result.arrival_s[-1]) if len(result.arrival_s) else 0.0
    steady = (result.arrival_s >= (2 * warm if problem.arrivals is None else warm)) & (result.arrival_s <= last - warm)
    return steady if steady.sum() >= FEWEST / 10 else np.ones_like(steady)


def _served(result: Result, taken: float, problem: Problem, warm: float) -> float:
    """Requests/s that are answered as they come, of so many that are taken on.

    A closed loop has a rate of its own.  Of arrivals at a known rate, those count that do not pile up: the growth of
    the number of unfinished requests between the first and the last `warm` seconds is taken off.
    """
    if problem.arrivals is None:
        return float(result.done.sum()) / max(result.span_s, 1e-12)
    last = float(result.arrival_s[-1])
    start = min(warm, last / 2)
    arrived = int((result.arrival_s > start).sum())
    growth = _unfinished(result, last) - _unfinished(result, start)
    return taken * (1 - min(1.0, max(0.0, growth / max(1, arrived))))


def _unfinished(result: Result, at_s: float) -> int:
    finished = result.done & (result.finish_s <= at_s)
    return int((result.arrival_s <= at_s).sum()) - int(finished.sum())


SUSTAINED = 0.95
"""Share of the arrivals that must be answered as they come; the rest is the noise of a finite run."""


def _load_rule(problem: Problem, offered: float, found: Mapping[Metric, Interval]) -> tuple[RuleCheck, ...]:
    """That the load which the plan takes on does not pile up."""
    if problem.arrivals is None:
        return ()
    served = found[Metric(name="goodput")].mean
    limit, text = SUSTAINED * offered, f"{offered:.4g}req/s are served as they arrive"
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
    made = against(rule, [{m: found[s].mean for m, s in source.items()}])
    return made if all(found[s].seeds for s in source.values()) else made.with_(value=None, limit=None, holds=False)


def _disagreements(plan: Plan, found: Mapping[Metric, Interval]) -> list[str]:
    """Where the simulated mean of a latency lies outside the predicted range."""
    notes = []
    for prediction in plan.predictions:
        simulated_mean = found.get(Metric(name=prediction.metric, stat="mean"))
        if simulated_mean is None or not simulated_mean.seeds:
            continue
        if prediction.low <= simulated_mean.mean <= prediction.high:
            continue
        side = "above" if simulated_mean.mean > prediction.high else "below"
        notes.append(
            f"the simulated mean of {prediction.metric}, {simulated_mean.mean:.3g} s, lies {side} the predicted range, "
            f"{prediction.low:.3g} to {prediction.high:.3g} s"
        )
    return notes
