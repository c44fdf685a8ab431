"""What no plan can beat, computed apart from the search: the bound of certificates on large inventories.

Mixed-integer programme over GPUs as a fluid (`fluid`), for replicas that do both phases, and, where phases may lie
apart, for those that prefill and those that decode, with
    R = R_both + R_prefill,  R_prefill = R_decode,  GPUs in use of a class at most its GPUs
    the user's linear rules with cost, GPUs, power and replicas in these, goodput <= R, goodput <= arrivals, and
    throughput in R;  limits on one latency, which every replica must meet
Every plan gives a solution of it.  Other rules are left out, which can only make the bound weaker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hexdsl.costs.predict import tpot_band
from hexdsl.costs.serving import Pipeline
from hexdsl.ir.spec.rule import Compare, Metric, Number, Rule
from hexdsl.passes.serve.fluid import Bar, Builder, Fluid
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


@dataclass(frozen=True)
class _Totals:
    """A programme's totals: GPUs in use (by the first of classes that are alike), requests/s, replicas."""

    used: dict[int, Any]
    rate: Any
    goodput: Any
    replicas: Any


def totals_bound(
    problem: Problem, pricer: Pricer, goal: Linear, sense: str, rules: Rules, serve_all: bool
) -> float | None:
    """The bound of a linear objective over totals; None where the relaxation finds none."""
    model = ConcreteModel()
    model.rules = ConstraintList()
    model.goodput = Var(domain=NonNegativeReals)
    totals = _totals(model, problem, pricer, rules)
    model.rules.add(totals.goodput <= totals.rate)
    model.rules.add(totals.replicas >= 1)
    if problem.arrivals is not None:
        model.rules.add(totals.goodput <= problem.arrivals)
        if serve_all:
            model.rules.add(totals.goodput >= problem.arrivals * (1 - 1e-9))
    for total in rules.total:
        expr = _expression(totals, problem, total.linear)
        model.rules.add(expr <= 0 if total.op == "<=" else expr >= 0 if total.op == ">=" else expr == 0)
    model.goal = Goal(expr=_expression(totals, problem, goal), sense=maximize if sense == "maximize" else minimize)
    return solve(model, LIMITS).bound


def _totals(model: Any, problem: Problem, pricer: Pricer, rules: Rules) -> _Totals:
    build, bars = Builder(model, Fluid(problem, pricer)), _bars(problem, pricer, rules)
    both = build.decoding("both", True, [b for b, _ in bars])
    roles, rate = [both], both.rate
    if problem.phased:
        first = build.prefill("prefill", [b for b, phase in bars if phase != "decode"])
        then = build.decoding("decode", False, [b for b, phase in bars if phase != "prefill"])
        model.rules.add(first.rate == then.rate)
        roles, rate = [both, first, then], both.rate + first.rate
    used = {c: quicksum(g for role in roles for g in role.gpus[c]) for c in build.fluid.alike}
    for c, members in build.fluid.alike.items():
        model.rules.add(used[c] <= sum(problem.classes[m].count * problem.classes[m].size for m in members))
    return _Totals(used, rate, model.goodput, quicksum(r for role in roles for r in role.replicas))


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
