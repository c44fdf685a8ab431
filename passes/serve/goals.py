"""The user's objectives as goals of the programme, and the tie-breaks that follow them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hexdsl.ir.diagnostic import Diagnostic, Label, NoPlanError
from hexdsl.ir.spec.rule import Metric, metrics_in
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.choose import Programme
from hexdsl.passes.serve.metrics import LATENCIES
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.rules import Linear, Rules, linear_goal, unplanned
from hexdsl.solve import Goal, maximize, minimize


@dataclass(frozen=True)
class Aim:
    """One objective: a linear form over totals, or one latency metric."""

    text: str
    sense: Literal["maximize", "minimize"]
    linear: Linear | None = None
    metric: Metric | None = None


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
        raise unplanned(objective)
    return Aim(objective.text, objective.sense, metric=objective.expr)


def serves_all(aims: tuple[Aim, ...], problem: Problem) -> bool:
    """Whether all arrivals must be served: where they are known and no objective is about how many are."""
    about_load = ("goodput", "throughput")
    named = {n for a in aims if a.linear for n in a.linear.weights}
    return problem.arrivals is not None and not named & set(about_load)


def goals_of(aims: tuple[Aim, ...], programme: Programme) -> Iterator[Goal]:
    """The aims, then the tie-breaks: lower cost, fewer GPUs, fewer replicas, first in order."""
    for aim in aims:
        yield Goal(expression(aim, programme), maximize if aim.sense == "maximize" else minimize, aim.text)
    if not any(math.isnan(c.usd_per_h) for c in programme.candidates):
        yield Goal(programme.total("cost"), minimize, "lower cost")
    yield Goal(programme.total("devices"), minimize, "fewer GPUs")
    yield Goal(programme.total("replicas"), minimize, "fewer replicas")
    yield Goal(programme.order(), minimize, "first in order")


def expression(aim: Aim, programme: Programme) -> Any:
    """An aim as an expression of the programme.  A mean over a known load is linear; else the worst replica counts."""
    if aim.linear is not None:
        return programme.linear(aim.linear)
    assert aim.metric is not None
    arrivals = programme.space.problem.arrivals
    if aim.metric.stat == "mean" and arrivals is not None:
        return programme.served(aim.metric) / arrivals
    return programme.worst(aim.metric)


def require_figures(serve: Serve, rules: Rules, aims: tuple[Aim, ...], problem: Problem) -> None:
    """Raises NoPlanError (P009) where cost or energy is asked for and a GPU has no price or power."""
    named = set(rules.names) | {n for a in aims if a.linear for n in a.linear.weights}
    for total, figure in (("cost", "usd_per_h"), ("energy", "watts")):
        lacking = [c.name for c in problem.classes if getattr(c, figure) is None]
        if total not in named or not lacking:
            continue
        span = next((r.span for r in (*serve.rules, *serve.objectives) if any(m.name == total for m in metrics_in(r.expr))), None)
        field = "price = $2/gpu/h" if total == "cost" else "power = 700W"
        message = f"`{total}` is asked for, but `{lacking[0]}` has no {field.partition(' ')[0]}"
        label = (Label(span),) if span else ()
        raise NoPlanError([Diagnostic("P009", message, label, f"write `{field}` in its block")])
