"""The replicas of a finished plan as priced pipelines: what prediction and verification look at."""

from __future__ import annotations

import numpy as np

from hexdsl.costs.gpu import Link
from hexdsl.costs.serving import Pipeline
from hexdsl.costs.stage import stage_cost
from hexdsl.ir.plan import Plan, Replica, Stage
from hexdsl.passes.serve.problem import NodeClass, Problem
from hexdsl.passes.serve.shapes import INNER


def class_of(plan: Plan, stage: Stage, problem: Problem) -> NodeClass:
    """The class of machines on which a stage runs."""
    group = plan.machine(stage.machine).group
    return next(c for c in problem.classes if c.name == group)


def hops_of(plan: Plan, replica: Replica, problem: Problem) -> tuple[Link | None, ...]:
    """The links between neighbouring stages; None where two machines have no way to each other."""
    pairs = zip(replica.stages, replica.stages[1:], strict=False)
    ends = (plan.machine(s.machine).group for s in (replica.stages[0], replica.stages[-1]))
    return problem.network.with_return(tuple(_hop(plan, a, b, problem) for a, b in pairs), *ends)


def _hop(plan: Plan, left: Stage, right: Stage, problem: Problem) -> Link | None:
    a, b = plan.machine(left.machine).group, plan.machine(right.machine).group
    if left.machine == right.machine:
        return problem.network.inside[a] or INNER
    return problem.network.link(a, b)


def pipeline_of(plan: Plan, replica: Replica, problem: Problem) -> Pipeline:
    """A replica, priced.  Raises ValueError where two neighbouring stages cannot reach each other."""
    hops = hops_of(plan, replica, problem)
    links = tuple(h for h in hops if h is not None)
    if len(links) != len(hops):
        raise ValueError(f"stages of {replica.name} cannot reach each other")
    costs = []
    for stage in replica.stages:
        cls = class_of(plan, stage, problem)
        costs.append(stage_cost((cls.gpu,) * stage.tp, problem.network.inside[cls.name], problem.arch, cls.formats))
    layers = tuple(b - a for a, b in (s.layers for s in replica.stages))
    return Pipeline(tuple(costs), layers, links, replica.step_tokens)


def running_at(line: Pipeline, rate: float, most: int, problem: Problem, prefill: bool = True) -> float:
    """Requests that run together when a replica serves `rate` requests/s: the least number that reaches it."""
    batches = np.arange(1, most + 1, dtype=np.float64)
    rates = np.maximum.accumulate(line.rate(batches, problem.load, prefill))
    return float(batches[min(int(np.searchsorted(rates, rate * (1 - 1e-9))), most - 1)])
