"""The user's objectives as goals of the programme, and the tie-breaks that follow them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hexdsl.ir.diagnostic import Diagnostic, Label, NoPlanError
from hexdsl.ir.spec.rule import Metric, Objective, Rule, metrics_in
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.choose import Programme, Scaled
from hexdsl.passes.serve.metrics import LATENCIES
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.rules import SPARE, Linear, Rules, linear_goal, unplanned, written_rules
from hexdsl.solve import Goal, maximize, minimize


@dataclass(frozen=True)
class Aim:
    """One objective: a linear form over totals, or one latency metric."""

    text: str
    sense: Literal["maximize", "minimize"]
    linear: Linear | None = None
    metric: Metric | None = None

    @property
    def direction(self) -> Any:
        """The sense as the solver names it."""
        return maximize if self.sense == "maximize" else minimize

    @property
    def unit(self) -> str:
        """The base unit of the objective; empty where it mixes totals or is a plain number."""
        if self.metric is not None:
            return "s"
        names = list(self.linear.weights) if self.linear is not None else []
        if len(names) != 1:
            return ""
        return {"cost": "usd/s", "goodput": "req/s", "throughput": "tok/s", "energy": "W"}.get(names[0], "")

    def is_mean(self, problem: Problem) -> bool:
        """Whether it is a mean over all requests, linear in the loads; other latencies are of the worst replica."""
        return self.metric is not None and self.metric.stat == "mean" and problem.arrivals is not None


def aims_of(serve: Serve, problem: Problem) -> tuple[Aim, ...]:
    """The user's objectives in order; where there is none, the one that `default_aim` names."""
    if not serve.objectives:
        return (default_aim(problem),)
    return tuple(_aim(o) for o in serve.objectives)


def default_aim(problem: Problem) -> Aim:
    """What is optimised when the spec says nothing: goodput where arrivals are known, else throughput."""
    name = "throughput" if problem.arrivals is None else "goodput"
    return Aim(f"maximize {name}", "maximize", Linear({name: 1.0}))


def _aim(objective: Any) -> Aim:
    metrics = tuple(metrics_in(objective.expr))
    if not any(m.name in LATENCIES for m in metrics):
        return Aim(objective.text, objective.sense, linear_goal(objective))
    if not isinstance(objective.expr, Metric) or objective.sense == "maximize":
        raise unplanned(objective, "planned today: `minimize` of one latency, such as `minimize p95(ttft)`")
    return Aim(objective.text, objective.sense, metric=objective.expr)


def serves_all(aims: tuple[Aim, ...], problem: Problem) -> bool:
    """Whether all arrivals must be served: where they are known and no objective is about how many are."""
    named = {n for a in aims if a.linear for n in a.linear.weights}
    return problem.arrivals is not None and not named & {"goodput", "throughput"}


def faster_is_better(rules: Rules, aims: tuple[Aim, ...], problem: Problem) -> bool:
    """Whether no rule and no objective is ever helped by a replica that serves fewer requests."""
    rates = {"throughput"} if problem.arrivals is not None else {"throughput", "goodput"}
    up = [(t.linear, {">=": 1, "<=": -1}.get(t.op, 0)) for t in rules.total]
    up += [(a.linear, 1 if a.sense == "maximize" else -1) for a in aims if a.linear]
    return all(sign * w > 0 for form, sign in up for n, w in form.weights.items() if n in rates and w)


def expression(aim: Aim, programme: Programme, mean: int) -> Scaled:
    """An aim as an expression of the programme; `mean` is the column of its latency among the candidates' own."""
    return programme.linear(aim.linear) if aim.linear is not None else programme.mean(mean)


def tie_breaks(programme: Programme, serve_all: bool) -> Iterator[Goal]:
    """More requests served, lower cost (where prices are known), fewer GPUs, fewer replicas, first in order."""
    if programme.problem.arrivals is not None and not serve_all:
        yield Goal(programme.linear(Linear({"goodput": 1.0})).expression, maximize, "more requests")
    if all(c.usd_per_h is not None for c in programme.problem.classes):
        yield Goal(programme.linear(Linear({"cost": 1.0})).expression, minimize, "lower cost")
    yield Goal(programme.linear(Linear({"devices": 1.0})).expression, minimize, "fewer GPUs")
    yield Goal(programme.linear(Linear({"replicas": 1.0})).expression, minimize, "fewer replicas")
    yield Goal(programme.order().expression, minimize, "first in order")


def require_figures(serve: Serve, rules: Rules, aims: tuple[Aim, ...], problem: Problem) -> None:
    """Raises NoPlanError: P009 where cost or energy is asked for and a GPU has no price or power, P004 where spare
    capacity is, and no load is known."""
    spare = next((r for r in written_rules(serve) if any(m.name == SPARE for m in metrics_in(r.expr))), None)
    if spare is not None and problem.arrivals is None:
        raise unplanned(spare, "what is spare depends on the load: add `arrivals = poisson(10req/s)` to a `workload`")
    named = set(rules.names) | {n for a in aims if a.linear for n in a.linear.weights}
    for total, figure, example in (("cost", "usd_per_h", "price = $2/gpu/h"), ("energy", "watts", "power = 700W")):
        lacking = [c for c in problem.classes if getattr(c, figure) is None]
        if total not in named or not lacking:
            continue
        asking: tuple[Rule | Objective, ...] = (*written_rules(serve), *serve.objectives)
        label = tuple(Label(r.span) for r in asking if any(m.name == total for m in metrics_in(r.expr)))[:1]
        block = f"nodes {lacking[0].name}" if total == "cost" else f"gpu {lacking[0].gpu.name}"
        message = f"`{total}` is asked for, but `{lacking[0].name}` has no {example.partition(' ')[0]}"
        raise NoPlanError([Diagnostic("P009", message, label, f"write `{example}` in `{block}`")])
