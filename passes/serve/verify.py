"""Everything that must hold of a serving plan, recomputed from the spec without the optimiser's code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hexdsl.costs.arch import tp_divides
from hexdsl.ir.plan import Plan, Replica
from hexdsl.passes.inventory import machines_of
from hexdsl.passes.serve.build import memory_of
from hexdsl.passes.serve.predict import check, values_of, view_of
from hexdsl.passes.serve.priced import class_of, hops_of
from hexdsl.passes.serve.problem import Problem, problem_of

CLOSE = 1e-5
"""Relative slack for figures that a plan writes with six digits."""


class BrokenPlanError(Exception):
    """A plan that breaks what it must keep: a bug in hexc, never the user's doing."""


def verify(plan: Plan) -> Plan:
    """Checks a finished plan; an unsound one is a bug and raises BrokenPlanError.

    Needs `replicas`, `routes` and `predictions`; gives `verified`.
    """
    faults = tuple(faults_of(plan))
    if faults:
        raise BrokenPlanError("; ".join(faults))
    return plan.with_(verified=CHECKS)


CHECKS = (
    "every GPU exists and is used once",
    "every layer is held once, in order",
    "tensor-parallel groups lie on one machine and divide the heads",
    "neighbouring stages are joined by a link",
    "weights, KV cache and buffers fit in memory",
    "the KV cache holds a request of the full context",
    "routes add up to one and no replica gets more than it can serve",
    "cost is that of the GPUs in use",
    "the user's rules hold",
)


def faults_of(plan: Plan) -> Iterator[str]:
    """What is wrong with a plan, in words; nothing where it is sound."""
    problem = problem_of(plan)
    yield from _devices(plan)
    for replica in plan.replicas:
        yield from _layers(replica, problem)
        yield from _stages(plan, replica, problem)
        yield from _memory(plan, replica, problem)
    yield from _routes(plan, problem)
    yield from _cost(plan, problem)
    yield from _rules(plan, problem)


def _devices(plan: Plan) -> Iterator[str]:
    there = {d.id: (m.id, d.gpu) for m in machines_of(plan.workflow.on) for d in m.devices}
    used = Counter(d for r in plan.replicas for d in r.devices)
    yield from (f"GPU {d} is used {n} times" for d, n in sorted(used.items()) if n > 1)
    for stage in (s for r in plan.replicas for s in r.stages):
        for device in stage.devices:
            if there.get(device) != (stage.machine, stage.gpu):
                yield f"GPU {device} is not a {stage.gpu} of {stage.machine}"


def _layers(replica: Replica, problem: Problem) -> Iterator[str]:
    bounds = [0, *(s.layers[1] for s in replica.stages)]
    starts = [s.layers[0] for s in replica.stages]
    if starts != bounds[:-1] or bounds[-1] != problem.arch.layers or any(a >= b for a, b in (s.layers for s in replica.stages)):
        yield f"{replica.name} does not hold layers 0 to {problem.arch.layers} once each: {[s.layers for s in replica.stages]}"


def _stages(plan: Plan, replica: Replica, problem: Problem) -> Iterator[str]:
    for stage in replica.stages:
        if not tp_divides(problem.arch, stage.tp):
            yield f"{replica.name}: {stage.tp} GPUs cannot share {problem.arch.heads} heads"
    if any(h is None for h in hops_of(plan, replica, problem)):
        yield f"{replica.name}: neighbouring stages have no link"


def _memory(plan: Plan, replica: Replica, problem: Problem) -> Iterator[str]:
    for stage in replica.stages:
        cls = class_of(plan, stage, problem)
        found = memory_of(problem, cls, stage.layers, stage.tp, replica.kv_tokens)
        need = found.weights_bytes + found.kv_bytes + found.other_bytes
        if found != stage.memory or need > found.capacity_bytes * (1 + 1e-9):
            yield f"{replica.name}: {stage.machine} needs {need} of {found.capacity_bytes} bytes"
    if replica.kv_tokens < problem.context // 16 * 16:
        yield f"{replica.name}: {replica.kv_tokens} KV tokens hold no request of {problem.context}"


def _routes(plan: Plan, problem: Problem) -> Iterator[str]:
    names = [r.replica for r in plan.routes]
    if sorted(names) != sorted(r.name for r in plan.replicas) or any(r.weight < 0 for r in plan.routes):
        yield "routes do not name each replica once"
    if abs(sum(r.weight for r in plan.routes) - 1) > CLOSE * max(1, len(plan.routes)):
        yield "routes do not add up to one"
    served = 0.0
    for replica in plan.replicas:
        served += replica.rate_req_per_s
        capacity = float(view_of(plan, replica, problem).line.rate(float(replica.max_batch), problem.load))
        if replica.rate_req_per_s > capacity * (1 + CLOSE):
            yield f"{replica.name} gets {replica.rate_req_per_s} of {capacity} requests/s"
    if problem.arrivals is not None and served > problem.arrivals * (1 + CLOSE):
        yield f"{served} requests/s are served of {problem.arrivals} that arrive"


def _cost(plan: Plan, problem: Problem) -> Iterator[str]:
    prices = {c.name: c.usd_per_h or 0.0 for c in problem.classes}
    groups = {m.id: m.group for m in plan.machines}
    total = sum(prices[groups[d.rpartition(":")[0]]] for r in plan.replicas for d in r.devices)
    if abs(total - plan.cost_usd_per_h) > CLOSE * max(1.0, total):
        yield f"the plan says {plan.cost_usd_per_h} $/h, its GPUs cost {total}"


def _rules(plan: Plan, problem: Problem) -> Iterator[str]:
    views = [view_of(plan, r, problem) for r in plan.replicas]
    rules = (*problem.serve.rules, *(r for phase in problem.serve.phase for r in phase.rules))
    for rule in rules:
        found = check(rule, values_of(plan, views, problem))
        if not found.holds:
            yield f"`{rule.text}` does not hold: {found.value} against {found.limit}"
