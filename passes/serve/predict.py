"""What the plan comes to: predicted metrics with ranges and provenance, and the user's rules against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hexdsl.costs.estimate import Estimate
from hexdsl.costs.predict import predict_rate, predict_tpot, predict_ttft
from hexdsl.costs.serving import Pipeline
from hexdsl.ir.plan import Plan, Prediction, Replica, RuleCheck, Term
from hexdsl.ir.spec.rule import Compare, Expr, Metric, Number, Rule, children, holds, metrics_in, number
from hexdsl.passes.serve.metrics import Latency, length_at
from hexdsl.passes.serve.priced import pipeline_of, running_at
from hexdsl.passes.serve.problem import Problem, problem_of
from hexdsl.passes.serve.rules import TOTALS

BINDING = 0.02
"""A rule binds where the plan comes this near to its limit."""


def predict(plan: Plan) -> Plan:
    """Predicts each replica at its planned load, the plan as a whole, and what each rule comes to.

    Needs `replicas`, `routes` and `cost`; gives `predictions` and `rules`.
    """
    problem = problem_of(plan)
    views = [view_of(plan, r, problem) for r in plan.replicas]
    replicas = tuple(v.replica.with_(predictions=v.predictions) for v in views)
    whole = _whole(plan, views, problem)
    serve = problem.serve
    rules = (*serve.rules, *(r for phase in serve.phase for r in phase.rules))
    checks = tuple(check(r, values_of(plan, views, problem)) for r in rules)
    return plan.with_(replicas=replicas, predictions=whole, rules=checks)


@dataclass(frozen=True)
class View:
    """A replica, priced, at the load that it gets."""

    replica: Replica
    line: Pipeline
    running: float
    share: float
    latency: Latency
    predictions: tuple[Prediction, ...]


def view_of(plan: Plan, replica: Replica, problem: Problem) -> View:
    """Prices a replica at its planned load: the requests that run together there, and what they see."""
    line = pipeline_of(plan, replica, problem)
    rate = replica.rate_req_per_s
    running = running_at(line, rate, replica.max_batch, problem)
    queue = rate if problem.arrivals is not None else None
    share = next((r.weight for r in plan.routes if r.replica == replica.name), 0.0)
    predictions = (
        _prediction("ttft", "s", predict_ttft(line, running, problem.load, queue)),
        _prediction("tpot", "s", predict_tpot(line, running, problem.load)),
        _prediction("capacity", "req/s", predict_rate(line, replica.max_batch, problem.load)),
    )
    return View(replica, line, running, share, Latency(line, running, queue, problem), predictions)


def _prediction(metric: str, unit: str, estimate: Estimate) -> Prediction:
    terms = tuple(Term(name=t.name, value=t.value, provenance=t.provenance) for t in estimate.terms)
    return Prediction(metric=metric, unit=unit, value=estimate.value, low=estimate.low, high=estimate.high, terms=terms)


def _whole(plan: Plan, views: Sequence[View], problem: Problem) -> tuple[Prediction, ...]:
    ttft, tpot = (_mixed(views, k) for k in (0, 1))
    output = length_at(problem.workload.output, "mean")
    ends = [(t, p) for t, p in ((ttft.value, tpot.value), (ttft.low, tpot.low), (ttft.high, tpot.high))]
    value, low, high = (t + p * max(0.0, output - 1) for t, p in ends)
    latency = Prediction(metric="latency", unit="s", value=value, low=low, high=high)
    capacity = _summed([v.predictions[2] for v in views], "capacity", "req/s", 1.0)
    tokens = _summed([v.predictions[2] for v in views], "throughput", "tok/s", output)
    found = [ttft, tpot, latency, capacity, tokens]
    if problem.arrivals is not None:
        served = sum(v.replica.rate_req_per_s for v in views)
        found.insert(0, Prediction(metric="goodput", unit="req/s", value=served, low=min(served, capacity.low), high=served))
    return tuple(found)


def _mixed(views: Sequence[View], k: int) -> Prediction:
    """A latency over all requests: the replicas' values weighted by their share of the requests."""
    first = views[0].predictions[k]

    def mean(get: Callable[[Prediction], float]) -> float:
        return sum(v.share * get(v.predictions[k]) for v in views)

    names = dict.fromkeys((t.name, t.provenance) for v in views for t in v.predictions[k].terms)
    terms = tuple(
        Term(name=n, provenance=p, value=sum(v.share * t.value for v in views for t in v.predictions[k].terms if (t.name, t.provenance) == (n, p)))
        for n, p in names
    )
    return Prediction(
        metric=first.metric, unit=first.unit, value=mean(lambda p: p.value), low=mean(lambda p: p.low),
        high=mean(lambda p: p.high), terms=terms,
    )  # fmt: skip


def _summed(parts: Sequence[Prediction], metric: str, unit: str, scale: float) -> Prediction:
    value, low, high = (scale * sum(getattr(p, end) for p in parts) for end in ("value", "low", "high"))
    return Prediction(metric=metric, unit=unit, value=value, low=low, high=high)


def values_of(plan: Plan, views: Sequence[View], problem: Problem) -> Callable[[Metric, str], tuple[float, ...]]:
    """A metric's values in the plan: one for the whole plan, or one for each replica or stage that it is about."""
    capacity = sum(v.replica.capacity_req_per_s for v in views)
    totals = {
        "cost": plan.cost_usd_per_h / 3600,
        "devices": float(sum(len(v.replica.devices) for v in views)),
        "replicas": float(len(views)),
        "goodput": sum(v.replica.rate_req_per_s for v in views),
        "energy": _watts(views, plan, problem),
    }

    def values(metric: Metric, unit: str) -> tuple[float, ...]:
        if metric.name == "throughput":
            return (capacity * (1.0 if unit == "req/s" else float(np.asarray(problem.load.output))),)
        if metric.name in TOTALS:
            return (totals[metric.name],)
        if metric.name == "pp":
            return tuple(float(len(v.replica.stages)) for v in views)
        if metric.name == "tp":
            return tuple(float(s.tp) for v in views for s in v.replica.stages)
        return tuple(float(v.latency.value(metric)) for v in views)

    return values


def _watts(views: Sequence[View], plan: Plan, problem: Problem) -> float:
    watts = {c.name: c.watts for c in problem.classes}
    groups = {m.id: m.group for m in plan.machines}
    return sum((watts[groups[s.machine]] or 0.0) * s.tp for v in views for s in v.replica.stages)


def check(rule: Rule, values: Callable[[Metric, str], tuple[float, ...]]) -> RuleCheck:
    """A rule against the plan: the value of the replica that comes nearest to breaking it."""
    unit = _unit(rule.expr)
    combinations = _combinations(rule.expr, lambda m: values(m, unit))
    truths = [holds(rule.expr, lambda m, c=c: c[m]) for c in combinations]  # type: ignore[misc]
    worst = combinations[truths.index(False)] if False in truths else combinations[0]
    shown, limit, binding = None, None, False
    if isinstance(rule.expr, Compare):
        sides = [(number(rule.expr.left, lambda m, c=c: c[m]), number(rule.expr.right, lambda m, c=c: c[m])) for c in combinations]  # type: ignore[misc]
        nearest = (max if rule.expr.op in ("<=", "<") else min)(sides, key=lambda s: s[0] - s[1])
        shown, limit = nearest
        binding = abs(shown - limit) <= BINDING * max(abs(shown), abs(limit), 1e-12)
    elif len(worst) == 1:
        shown = next(iter(worst.values()))
    return RuleCheck(text=rule.text, line=rule.span.line, value=shown, limit=limit, unit=unit, holds=all(truths), binding=binding)


def _combinations(expr: Expr, values: Callable[[Metric], tuple[float, ...]]) -> list[dict[Metric, float]]:
    """The metrics of a rule, for each replica (or stage) that they are about; totals are the same for all."""
    metrics = tuple(dict.fromkeys(metrics_in(expr)))
    found = {m: values(m) for m in metrics}
    most = max((len(v) for v in found.values()), default=1)
    return [{m: v[min(i, len(v) - 1)] for m, v in found.items()} for i in range(most)]


def _unit(expr: Expr) -> str:
    if isinstance(expr, Number):
        return expr.unit
    return next((u for part in children(expr) if (u := _unit(part))), "")

