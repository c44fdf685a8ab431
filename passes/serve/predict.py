"""What the plan comes to: predicted metrics with ranges and provenance, and the user's rules against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hexdsl.costs.estimate import Estimate
from hexdsl.costs.network import transfer
from hexdsl.costs.predict import predict_first, predict_prompts, predict_rate, predict_tpot, predict_ttft
from hexdsl.costs.serving import Pipeline
from hexdsl.ir.plan import Plan, Prediction, Replica, RuleCheck, Term
from hexdsl.ir.spec.rule import Compare, Expr, Metric, Number, Rule, children, holds, metrics_in, number
from hexdsl.passes.serve.handover import kv_bytes, link_of
from hexdsl.passes.serve.metrics import LATENCY_OF, Latency, length_at
from hexdsl.passes.serve.priced import hops_of, pipeline_of, running_at
from hexdsl.passes.serve.problem import Problem, Role, problem_of
from hexdsl.passes.serve.rules import SHAPES, SPARE, TOTALS, phase_of, written_rules

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
    return plan.with_(replicas=replicas, predictions=_whole(plan, views, problem), rules=checks)


@dataclass(frozen=True)
class View:
    """A replica, priced, at the load that it gets."""

    replica: Replica
    line: Pipeline
    running: float
    share: float
    latency: Latency
    predictions: tuple[Prediction, ...]

    def prediction(self, metric: str) -> Prediction:
        """The prediction of this metric."""
        return next(p for p in self.predictions if p.metric == metric)


def views_of(plan: Plan, problem: Problem) -> tuple[View, ...]:
    """Every replica of a plan at its planned load."""
    alike: dict[object, View] = {}
    return tuple(_view(plan, r, problem, alike) for r in plan.replicas)


def _view(plan: Plan, replica: Replica, problem: Problem, alike: dict[object, View]) -> View:
    """A replica's view; one that is like another but for its name and its machines is priced once."""
    stages = tuple((plan.machine(s.machine).group, s.tp, s.layers) for s in replica.stages)
    limits = (replica.role, replica.max_batch, replica.step_tokens, replica.kv_tokens, replica.rate_req_per_s)
    key = (stages, hops_of(plan, replica, problem), limits)
    if key not in alike:
        alike[key] = _priced(plan, replica, problem)
    return replace(alike[key], replica=replica)


def _priced(plan: Plan, replica: Replica, problem: Problem) -> View:
    """Prices a replica at its planned load: the requests that run together there, and what they see."""
    line, rate, role = pipeline_of(plan, replica, problem), replica.rate_req_per_s, replica.role
    running = 0.0
    if role != "prefill":
        running = running_at(line, rate, replica.max_batch, problem, prefill=role == "both")
    queue = rate if problem.arrivals is not None or role == "prefill" else None
    total = plan.served_req_per_s
    share = rate / total if total else 1.0 / len(plan.entries)
    latency = LATENCY_OF[role](line, running, queue, problem, seats=replica.max_batch)
    return View(replica, line, running, share, latency, tuple(_predictions(line, replica, running, queue, problem)))


def _predictions(
    line: Pipeline, replica: Replica, running: float, queue: float | None, problem: Problem
) -> Iterator[Prediction]:
    """What a replica comes to in what it does."""
    load, role = problem.load, replica.role
    if role == "prefill":
        yield _prediction("ttft", "s", predict_first(line, load, replica.rate_req_per_s))
        yield _prediction("capacity", "req/s", predict_prompts(line, load))
        return
    if role == "both":
        yield _prediction("ttft", "s", predict_ttft(line, running, load, queue))
    yield _prediction("tpot", "s", predict_tpot(line, running, load, prefill=role == "both"))
    yield _prediction("capacity", "req/s", predict_rate(line, replica.max_batch, load, prefill=role == "both"))


def _prediction(metric: str, unit: str, estimate: Estimate) -> Prediction:
    terms = tuple(Term(name=t.name, value=t.value, provenance=t.provenance) for t in estimate.terms)
    return Prediction(metric=metric, unit=unit, value=estimate.value, low=estimate.low, high=estimate.high, terms=terms)


def _whole(plan: Plan, views: Sequence[View], problem: Problem) -> tuple[Prediction, ...]:
    ttft, tpot = (_mixed(views, metric) for metric in ("ttft", "tpot"))
    output = length_at(problem.workload.output, "mean")
    ends = [(t, p) for t, p in ((ttft.value, tpot.value), (ttft.low, tpot.low), (ttft.high, tpot.high))]
    value, low, high = (t + p * max(0.0, output - 1) for t, p in ends)
    moved = _moved(plan, problem)
    latency = Prediction(metric="latency", unit="s", value=value + moved, low=low, high=high + moved)
    capacity = _capacity(views)
    tokens = _summed([capacity], "throughput", "tok/s", output)
    found = [ttft, tpot, latency, capacity, tokens]
    if problem.arrivals is not None:
        served = plan.served_req_per_s
        low = min(served, capacity.low)
        found.insert(0, Prediction(metric="goodput", unit="req/s", value=served, low=low, high=served))
    return tuple(found)


def _moved(plan: Plan, problem: Problem) -> float:
    """Mean seconds that a request's KV cache is on its way from one replica to another."""
    replicas = {r.name: r for r in plan.replicas}
    total, seconds = plan.served_req_per_s, 0.0
    for handover in plan.handovers:
        source, target = replicas[handover.source], replicas[handover.target]
        link = link_of(plan, problem, source, target)
        assert link is not None
        share = handover.weight * source.rate_req_per_s / total if total else 0.0
        seconds += share * float(transfer(link, kv_bytes(problem, handover.bits)))
    return seconds


def _capacity(views: Sequence[View]) -> Prediction:
    """Requests/s of the replicas that do both phases, and of the others the phase that can do less."""
    by_role = {role: [v.prediction("capacity") for v in views if v.replica.role == role] for role in ROLES}
    halves = [_summed(by_role[role], "capacity", "req/s", 1.0) for role in ("prefill", "decode") if by_role[role]]
    least = min(halves, key=lambda p: p.value, default=None)
    return _summed([*by_role["both"], *([least] if least else [])], "capacity", "req/s", 1.0)


ROLES: tuple[Role, ...] = ("both", "prefill", "decode")


def _mixed(views: Sequence[View], metric: str) -> Prediction:
    """A latency over all requests: the replicas' values weighted by their share of the requests."""
    known = [(v.share, p) for v in views for p in v.predictions if p.metric == metric]
    names = dict.fromkeys((t.name, t.provenance) for _, p in known for t in p.terms)
    terms = tuple(
        Term(
            name=n,
            provenance=trust,
            value=sum(share * t.value for share, p in known for t in p.terms if (t.name, t.provenance) == (n, trust)),
        )
        for n, trust in names
    )
    value, low, high = (sum(share * getattr(p, end) for share, p in known) for end in ("value", "low", "high"))
    return Prediction(metric=metric, unit=known[0][1].unit, value=value, low=low, high=high, terms=terms)


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
        if metric.name in SHAPES:
            stages = view.replica.stages
            return float({"tp": tp, "pp": len(stages), "kinds": len({s.gpu for s in stages})}[metric.name])
        if metric.name == SPARE:
            return 1 - self.plan.served_req_per_s / self._capacity
        if metric.name not in TOTALS:
            return float(view.latency.value(metric))
        if metric.name == "throughput":
            capacity = self._capacity
            return capacity * (1.0 if unit == "req/s" else self.problem.output)
        return self._totals[metric.name]

    @cached_property
    def _capacity(self) -> float:
        """Requests/s at most: of replicas of one phase the phase that can do less."""
        by_role = {r: sum(v.replica.capacity_req_per_s for v in self.views if v.replica.role == r) for r in ROLES}
        return by_role["both"] + min(by_role["prefill"], by_role["decode"])

    @cached_property
    def _totals(self) -> dict[str, float]:
        return {
            "cost": self._by_gpu("usd_per_h") / 3600,
            "devices": float(sum(len(v.replica.devices) for v in self.views)),
            "replicas": float(len(self.views)),
            "goodput": self.plan.served_req_per_s,
            "energy": self._by_gpu("watts"),
        }

    def _by_gpu(self, figure: str) -> float:
        per_gpu = {c.name: getattr(c, figure) or 0.0 for c in self.problem.classes}
        stages = (s for v in self.views for s in v.replica.stages)
        return float(sum(per_gpu[self.plan.machine(s.machine).group] * s.tp for s in stages))


def check(rule: Rule, figures: Figures) -> RuleCheck:
    """A rule against the plan, for every replica and stage: the value that comes nearest to breaking it."""
    unit = unit_of(rule.expr)
    phase = phase_of(rule, figures.problem.serve)
    views = [v for v in figures.views if phase in (None, v.replica.role) or v.replica.role == "both"]
    cases = [_case(rule.expr, figures, unit, v, tp) for v in views for tp in sorted({s.tp for s in v.replica.stages})]
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
