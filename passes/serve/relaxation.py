"""What no plan can beat, computed apart from the search: the bound of certificates on large inventories.

Mixed-integer programme over GPUs as a fluid (`fluid`), for replicas that do both phases, and, where phases may lie
apart, for those that prefill and those that decode, with
    R = R_both + R_prefill,  R_prefill = R_decode,  GPUs in use of a class at most its GPUs
    the user's linear rules with cost, GPUs, power and replicas in these, goodput <= R, goodput <= arrivals, and
    throughput in R;  limits on one latency, which every replica must meet
Every plan gives a solution of it.  Other rules are left out, which can only make the bound weaker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hexdsl.costs.predict import tpot_band
from hexdsl.costs.serving import Pipeline
from hexdsl.ir.spec.rule import Compare, Metric, Number, Rule
from hexdsl.passes.serve.certify import CLOSE, gap
from hexdsl.passes.serve.fluid import Bar, Builder, Fluid, Span
from hexdsl.passes.serve.limits import limit_of
from hexdsl.passes.serve.metrics import is_tail, length_at
from hexdsl.passes.serve.points import Pricer
from hexdsl.passes.serve.problem import NodeClass, Problem
from hexdsl.passes.serve.rules import Linear, Rules, phase_of
from hexdsl.solve import (
    ConcreteModel,
    ConstraintList,
    Limits,
    NonNegativeReals,
    Var,
    maximize,
    minimize,
    quicksum,
    solve,
)
from hexdsl.solve import Objective as Goal

HOUR = 3600.0

LIMITS = Limits(max_nodes=20, rel_gap=1e-3, time_s=20)
"""The bound of a search that is cut short holds all the same."""

ROUNDS, WHOLE_ROUNDS = 16, 3
"""Times that spans of pipelines in use are divided: first, and where replicas are counted in whole numbers."""

QUICK = 4
"""The same in haste: for a deployment that has lost machines, and for plans with margins."""

PATIENCE, LITTLE = 4, 0.005
"""Times that they are divided for a bound that comes nearer by no more than this share."""

FEW = 40
"""Up to so many GPUs replicas are counted in whole numbers at last."""


@dataclass(frozen=True)
class Wanted:
    """What is bounded, and under which rules; what a plan reaches: a bound that close need be no better."""

    problem: Problem
    pricer: Pricer
    goal: Linear
    sense: str
    rules: Rules
    serve_all: bool
    reached: float | None = None

    def enough(self, bound: float | None) -> bool:
        return bound is None or (self.reached is not None and gap(self.reached, bound) <= CLOSE)


Spans = Mapping[str, tuple[Span, ...]]
"""By the role of replicas, the spans of their pipelines."""


@dataclass(frozen=True)
class _Totals:
    """A programme's totals: GPUs in use (by the first of classes that are alike), requests/s, replicas."""

    used: dict[int, Any]
    rate: Any
    goodput: Any
    replicas: Any
    spans: dict[str, dict[Span, Any]]

    def finer(self) -> Spans:
        """The spans, those in use divided."""
        return {
            role: tuple(part for span, rate in spans.items() for part in (span.parts if _used(rate) else (span,)))
            for role, spans in self.spans.items()
        }

    @property
    def narrow(self) -> bool:
        """Whether no span in use can be divided."""
        return all(s.parts == (s,) for spans in self.spans.values() for s, rate in spans.items() if _used(rate))


def _used(rate: Any) -> bool:
    return (rate.value or 0.0) > 1e-9


def totals_bound(wanted: Wanted, rounds: int = ROUNDS) -> float | None:
    """The bound of a linear objective over totals; None where the relaxation finds none.

    Spans of pipelines are divided where they are in use, up to so many times.
    """
    fluid = Fluid(wanted.problem, wanted.pricer, whole=False)
    spans: Spans = {"both": fluid.spans(True), "decode": fluid.spans(False)}
    bound, spans = _narrowed(wanted, fluid, spans, rounds)
    if wanted.problem.devices > FEW or wanted.enough(bound) or rounds <= QUICK:
        return bound
    return _narrowed(wanted, replace(fluid, whole=True), spans, WHOLE_ROUNDS)[0]


def _narrowed(wanted: Wanted, fluid: Fluid, spans: Spans, rounds: int) -> tuple[float | None, Spans]:
    """The bound with spans that are divided where they are in use, and these spans."""
    bounds: list[float | None] = []
    while True:
        bound, totals = _bound(wanted, fluid, spans)
        bounds.append(bound)
        if wanted.enough(bound) or totals.narrow or len(bounds) == rounds or _stuck(bounds):
            return bound, spans
        spans = totals.finer()


def _stuck(bounds: Sequence[float | None]) -> bool:
    """Whether dividing has brought little for some time, as where all that arrives can be served."""
    last, before = bounds[-1], bounds[max(0, len(bounds) - 1 - PATIENCE)]
    return len(bounds) > PATIENCE and last is not None and before is not None and gap(last, before) <= LITTLE


def _bound(wanted: Wanted, fluid: Fluid, spans: Spans) -> tuple[float | None, _Totals]:
    model, problem = ConcreteModel(), wanted.problem
    model.rules = ConstraintList()
    model.goodput = Var(domain=NonNegativeReals)
    totals = _totals(model, wanted, fluid, spans)
    model.rules.add(totals.goodput <= totals.rate)
    model.rules.add(totals.replicas >= 1)
    if problem.arrivals is not None:
        model.rules.add(totals.goodput <= problem.arrivals)
        if wanted.serve_all:
            model.rules.add(totals.goodput >= problem.arrivals * (1 - 1e-9))
    for total in wanted.rules.total:
        expr = _expression(totals, problem, total.linear)
        model.rules.add(expr <= 0 if total.op == "<=" else expr >= 0 if total.op == ">=" else expr == 0)
    sense = maximize if wanted.sense == "maximize" else minimize
    model.goal = Goal(expr=_expression(totals, problem, wanted.goal), sense=sense)
    return solve(model, LIMITS).bound, totals


def _totals(model: Any, wanted: Wanted, fluid: Fluid, spans: Spans) -> _Totals:
    problem = wanted.problem
    build, bars = Builder(model, fluid), _bars(problem, wanted.pricer, wanted.rules)
    both = build.decoding("both", True, [b for b, _ in bars], spans["both"])
    roles, rate, told = [both], both.rate, {"both": both.spans}
    if problem.phased:
        first = build.prefill("prefill", [b for b, phase in bars if phase != "decode"])
        then = build.decoding("decode", False, [b for b, phase in bars if phase != "prefill"], spans["decode"])
        model.rules.add(first.rate == then.rate)
        roles, rate = [both, first, then], both.rate + first.rate
        told["decode"] = then.spans
    used = {c: quicksum(g for role in roles for g in role.gpus[c]) for c in fluid.alike}
    for c, members in fluid.alike.items():
        model.rules.add(used[c] <= sum(problem.classes[m].count * problem.classes[m].size for m in members))
    return _Totals(used, rate, model.goodput, quicksum(r for role in roles for r in role.replicas), told)


def _bars(problem: Problem, pricer: Pricer, rules: Rules) -> tuple[tuple[Bar, str | None], ...]:
    """The rules that put a limit on one latency, each with the phase in whose block it stands."""
    found = ((rule, _bar(problem, pricer, rule)) for rule in rules.point)
    return tuple((bar, phase_of(rule, problem.serve)) for rule, bar in found if bar is not None)


def _bar(problem: Problem, pricer: Pricer, rule: Rule) -> Bar | None:
    limit, expr = limit_of(rule), rule.expr
    if limit is None or not limit.upper or not isinstance(expr, Compare):
        return None
    seconds = next(side.value for side in (expr.left, expr.right) if isinstance(side, Number))
    metric, work = limit.metric, problem.workload
    band = 1 + (_least_band(problem, pricer) if is_tail(metric.stat) else 0.0)
    tokens = {"ttft": 0.0, "tpot": 1.0}.get(metric.name, max(0.0, length_at(work.output, metric.stat) - 1))
    first = float(metric.name != "tpot")
    return Bar(length_at(work.prompt, metric.stat), first, tokens * band, seconds * (1 + 1e-6))


def _least_band(problem: Problem, pricer: Pricer) -> float:
    return min(tpot_band(Pipeline((stage,), (problem.arch.layers,), ())) for stage in _stages(problem, pricer))


def _stages(problem: Problem, pricer: Pricer) -> Iterator[Any]:
    return (pricer.stage(c, t) for c, cls in enumerate(problem.classes) for t in cls.degrees)


def _expression(totals: _Totals, problem: Problem, form: Linear) -> Any:
    per: dict[str, Callable[[NodeClass], float]] = {
        "cost": lambda c: (c.usd_per_h or 0.0) / HOUR,
        "energy": lambda c: c.watts or 0.0,
        "devices": lambda c: 1.0,
    }
    terms: list[Any] = [form.constant]
    for name, weight in sorted(form.weights.items()):
        if name in per:
            each = totals.used.items()
            terms.append(weight * quicksum(per[name](problem.classes[c]) * used for c, used in each))
        elif name == "replicas":
            terms.append(weight * totals.replicas)
        else:
            unit = problem.output if name == "throughput" and not form.requests else 1.0
            terms.append(weight * unit * (totals.goodput if name == "goodput" else totals.rate))
    return sum(terms)


def latency_bound(problem: Problem, pricer: Pricer, metric: Metric) -> float:
    """A latency that no replica undercuts: every layer and the output head at their best place, alone."""
    load, layers = problem.load, problem.arch.layers
    stages = tuple(_stages(problem, pricer))
    step = layers * min(float(s.decode(1.0, load.context).total) for s in stages) + min(
        float(s.head(1.0).total) for s in stages
    )
    prompt = length_at(problem.workload.prompt, metric.stat)
    first = layers * min(float(s.alone(prompt)) for s in stages) + min(float(s.head(1.0).total) for s in stages)
    if metric.name == "tpot":
        return step
    if metric.name == "ttft":
        return first
    return first + step * max(0.0, length_at(problem.workload.output, metric.stat) - 1)
