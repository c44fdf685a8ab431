"""What no plan can beat, computed apart from the search: the bound of certificates on large inventories.

Linear programme over GPUs by class.  Variables: n_c <= N_c GPUs of class c in use (not whole), R requests/s.
    R <= sum_c n_c / (L w_c)      w_c the least GPU-seconds per layer of a request (`hexdsl.costs.bound`)
    where phases may lie on different replicas: a_c + b_c <= n_c, R <= sum_c a_c / (L p_c), R <= sum_c b_c / (L d_c)
                                  with p_c and d_c the parts of w_c for the prompt and for the answer
    the user's linear rules with cost, GPUs and power in n_c, goodput <= R, goodput <= arrivals, throughput in R
Every plan gives a solution of it: its GPUs by class, and rates that `hexdsl.costs.bound.rate_bound` proves.
Rules over replicas, shapes and latencies are left out, which can only make the bound weaker.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hexdsl.costs.bound import Work, work_per_request
from hexdsl.costs.memory import Slice, weight_bytes
from hexdsl.ir.spec.rule import Metric
from hexdsl.passes.serve.metrics import length_at
from hexdsl.passes.serve.points import Pricer
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.rules import Linear, Total
from hexdsl.solve import (
    ConcreteModel,
    Constraint,
    ConstraintList,
    NonNegativeReals,
    Var,
    maximize,
    minimize,
    quicksum,
    solve,
)
from hexdsl.solve import Objective as Goal

HOUR = 3600.0


def totals_bound(
    problem: Problem, goal: Linear, sense: str, totals: tuple[Total, ...], serve_all: bool
) -> float | None:
    """The bound of a linear objective over totals; None where it has none (replicas)."""
    if "replicas" in goal.weights:
        return None
    model = ConcreteModel()
    classes = range(len(problem.classes))
    model.n = Var(
        classes, domain=NonNegativeReals, bounds=lambda m, c: (0, problem.classes[c].count * problem.classes[c].size)
    )
    model.rate = Var(domain=NonNegativeReals)
    model.goodput = Var(domain=NonNegativeReals)
    _add_work(model, problem)
    model.served = Constraint(expr=model.goodput <= model.rate)
    _add_load(model, problem, serve_all)
    model.memory = Constraint(
        expr=quicksum(problem.classes[c].gpu.memory_bytes * model.n[c] for c in classes) >= _weights(problem)
    )
    model.rules = ConstraintList()
    for total in totals:
        if "replicas" not in total.linear.weights:
            expr = _expression(model, problem, total.linear)
            model.rules.add(expr <= 0 if total.op == "<=" else expr >= 0 if total.op == ">=" else expr == 0)
    model.goal = Goal(expr=_expression(model, problem, goal), sense=maximize if sense == "maximize" else minimize)
    return solve(model).objective


def _add_work(model: Any, problem: Problem) -> None:
    """What GPUs can do at most, with their time divided between the phases where these may lie apart."""
    layers, works = problem.arch.layers, [_work(problem, c) for c in model.n]
    if not problem.phased:
        most = quicksum(model.n[c] / (layers * works[c].total_s) for c in model.n)
        model.work = Constraint(expr=model.rate <= most)
        return
    model.first, model.then = (Var(model.n.index_set(), domain=NonNegativeReals) for _ in range(2))
    model.time = Constraint(model.n.index_set(), rule=lambda m, c: m.first[c] + m.then[c] <= m.n[c])
    first = quicksum(model.first[c] / (layers * works[c].prefill_s) for c in model.n)
    then = quicksum(model.then[c] / (layers * works[c].decode_s) for c in model.n)
    model.prompts, model.answers = (Constraint(expr=model.rate <= most) for most in (first, then))


def _add_load(model: Any, problem: Problem, serve_all: bool) -> None:
    if problem.arrivals is None:
        return
    model.at_most = Constraint(expr=model.goodput <= problem.arrivals)
    if serve_all:
        model.all_served = Constraint(expr=model.goodput >= problem.arrivals * (1 - 1e-9))


def _work(problem: Problem, c: int) -> Work:
    cls = problem.classes[c]
    return work_per_request(cls.gpu, problem.arch, cls.formats, problem.load, problem.engine)


def _weights(problem: Problem) -> float:
    """The least bytes of one copy of the model, in the smallest of the formats in use."""
    whole = Slice(0, problem.arch.layers)
    return min(float(weight_bytes(problem.arch, cls.formats, whole)) for cls in problem.classes)


def _expression(model: Any, problem: Problem, form: Linear) -> Any:
    output = float(np.asarray(problem.load.output))
    per = {"cost": "usd_per_h", "energy": "watts"}
    terms: list[Any] = [form.constant]
    for name, weight in sorted(form.weights.items()):
        if name in per:
            scale = HOUR if name == "cost" else 1.0
            terms.append(
                weight
                * quicksum((getattr(c, per[name]) or 0.0) / scale * model.n[i] for i, c in enumerate(problem.classes))
            )
        elif name == "devices":
            terms.append(weight * quicksum(model.n[i] for i in model.n))
        else:
            unit = output if name == "throughput" and not form.requests else 1.0
            terms.append(weight * unit * (model.goodput if name == "goodput" else model.rate))
    return sum(terms)


def latency_bound(problem: Problem, pricer: Pricer, metric: Metric) -> float:
    """A latency that no replica undercuts: every layer and the output head at their best place, alone."""
    load, layers = problem.load, problem.arch.layers
    stages = [pricer.stage(c, t) for c, cls in enumerate(problem.classes) for t in cls.degrees]
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
