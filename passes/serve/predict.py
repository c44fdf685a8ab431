"""What the plan comes to: predicted metrics with ranges and provenance, and the user's rules against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hexdsl.costs.estimate import Estimate
from hexdsl.costs.predict import predict_rate, predict_tpot, predict_ttft
from hexdsl.costs.serving import Pipeline
from hexdsl.ir.plan import Plan, Prediction, Replica, RuleCheck, Term
from hexdsl.ir.spec.rule import Compare, Expr, Metric, Number, Rule, children, holds, metrics_in, number
from hexdsl.passes.serve.metrics import Latency, length_at
from hexdsl.passes.serve.priced import pipeline_of, running_at
from hexdsl.passes.serve.problem import Problem, problem_of
from hexdsl.passes.serve.rules import TOTALS, written_rules

BINDING = 0.02
"""A rule binds where the plan comes this near to its limit."""


def predict(plan: Plan) -> Plan:
    """Predicts each replica at its planned load, the plan as a whole, and what each rule comes to.

    Needs `replicas`, `routes` and `cost`; gives `predictions` and `rules`.
    """
    problem = problem_of(plan)
    views = views_of(plan, problem)
    replicas = tuple(v.replica.with_(predictions=v.predictions) for v in views)
    figures = Figures(plan, views, problem)
    checks = tuple(check(rule, figures) for rule in written_rules(problem.serve))
    return plan.with_(replicas=replicas, predictions=_whole(views, problem), rules=checks)


@dataclass(frozen=True)
class View:
    """A replica, priced, at the load that it gets."""

    replica: Replica
    line: Pipeline
    running: float
    share: float
    latency: Latency
    predictions: tuple[Prediction, ...]


def views_of(plan: Plan, problem: Problem) -> tuple[View, ...]:
    """Every replica of a plan at its planned load."""
    return tuple(view_of(plan, r, problem) for r in plan.replicas)


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


def _whole(views: Sequence[View], problem: Problem) -> tuple[Prediction, ...]:
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
        low = min(served, capacity.low)
        found.insert(0, Prediction(metric="goodput", unit="req/s", value=served, low=low, high=served))
    return tuple(found)


def _mixed(views: Sequence[View], k: int) -> Prediction:
    """A latency over all requests: the replicas' values weighted by their share of the requests."""
    first = views[0].predictions[k]

    def mean(get: Callable[[Prediction], float]) -> float:
        return sum(v.share * get(v.predictions[k]) for v in views)

    names = dict.fromkeys((t.name, t.provenance) for v in views for t in v.predictions[k].terms)
    weighted = [(v.share, t) for v in views for t in v.predictions[k].terms]
    terms = tuple(
        Term(
            name=n,
            provenance=p,
            value=sum(share * t.value for share, t in weighted if (t.name, t.provenance) == (n, p)),
        )
        for n, p in names
    )
    return Prediction(
        metric=first.metric, unit=first.unit, value=mean(lambda p: p.value), low=mean(lambda p: p.low),
        high=mean(lambda p: p.high), terms=terms,
    )  # fmt: skip


def _summed(parts: Sequence[Prediction], metric: str, unit: str, scale: float) -> Prediction:
    value, low, high = (scale * sum(getattr(p, end) for p in parts) for end in ("value", "low", "high"))
    return Prediction(metric=metric, unit=unit, value=value, low=low, high=high)


@dataclass(frozen=True)
class Figures:
    """The figures of a plan that rules may name."""

    plan: Plan
    views: tuple[View, ...]
    problem: Problem

    def value(self, metric: Metric, unit: str, view: View, tp: int) -> float:
        """A metric of the whole plan, or of one replica or one of its stages where it is about those."""
        if metric.name in ("tp", "pp"):
            return float(tp if metric.name == "tp" else len(view.replica.stages))
        if metric.name not in TOTALS:
            return float(view.latency.value(metric))
        if metric.name == "throughput":
            capacity = sum(v.replica.capacity_req_per_s for v in self.views)
            return capacity * (1.0 if unit == "req/s" else self.problem.output)
        return self._totals[metric.name]

    @cached_property
    def _totals(self) -> dict[str, float]:
        return {
            "cost": self._by_gpu("usd_per_h") / 3600,
            "devices": float(sum(len(v.replica.devices) for v in self.views)),
            "replicas": float(len(self.views)),
            "goodput": sum(v.replica.rate_req_per_s for v in self.views),
            "energy": self._by_gpu("watts"),
        }

    def _by_gpu(self, figure: str) -> float:
        per_gpu = {c.name: getattr(c, figure) or 0.0 for c in self.problem.classes}
        stages = (s for v in self.views for s in v.replica.stages)
        return float(sum(per_gpu[self.plan.machine(s.machine).group] * s.tp for s in stages))


def check(rule: Rule, figures: Figures) -> RuleCheck:
    """A rule against the plan, for every replica and stage: the value that comes nearest to breaking it."""
    unit = unit_of(rule.expr)
    cases = [
        _case(rule.expr, figures, unit, v, tp) for v in figures.views for tp in sorted({s.tp for s in v.replica.stages})
    ]
    return against(rule, cases)


def against(rule: Rule, cases: Sequence[Mapping[Metric, float]]) -> RuleCheck:
    """A rule against the values of its metrics in every case; it must hold in all of them."""
    truths = [holds(rule.expr, case.__getitem__) for case in cases]
    worst = cases[truths.index(False)] if False in truths else cases[0]
    value, limit = next(iter(worst.values())) if len(worst) == 1 else None, None
    if isinstance(rule.expr, Compare):
        sides = [(number(rule.expr.left, c.__getitem__), number(rule.expr.right, c.__getitem__)) for c in cases]
        nearest = max if rule.expr.op in ("<=", "<") else min
        value, limit = nearest(sides, key=lambda s: s[0] - s[1])
    near = (
        value is not None and limit is not None and abs(value - limit) <= BINDING * max(abs(value), abs(limit), 1e-12)
    )
    return RuleCheck(
        text=rule.text,
        line=rule.span.line,
        value=value,
        limit=limit,
        unit=unit_of(rule.expr),
        holds=all(truths),
        binding=near,
    )


def _case(expr: Expr, figures: Figures, unit: str, view: View, tp: int) -> dict[Metric, float]:
    return {m: figures.value(m, unit, view, tp) for m in metrics_in(expr)}


def unit_of(expr: Expr) -> str:
    if isinstance(expr, Number):
        return expr.unit
    return next((u for part in children(expr) if (u := unit_of(part))), "")
