"""Everything that must hold of a serving plan, recomputed from the spec without the optimiser's code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hexdsl.costs.arch import tp_divides
from hexdsl.costs.memory import Slice, free_kv_bytes, kv_token_bytes, weight_bytes
from hexdsl.ir.plan import Plan, Replica
from hexdsl.passes.inventory import machines_left
from hexdsl.passes.serve.handover import kv_bytes, link_of
from hexdsl.passes.serve.predict import Figures, View, check, views_of
from hexdsl.passes.serve.priced import class_of, hops_of
from hexdsl.passes.serve.problem import BLOCK, Problem, context_of, problem_of
from hexdsl.passes.serve.rules import written_rules

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


def faults_of(plan: Plan, rules: bool = True) -> Iterator[str]:
    """What is wrong with a plan, in words; nothing where it is sound.  `rules` says that the user's must hold.

    Figures are only looked at where the structure is sound, since they mean nothing otherwise.
    """
    problem = problem_of(plan)
    structure = tuple(_structure(plan, problem))
    yield from structure
    if structure:
        return
    for replica in plan.replicas:
        yield from _memory(plan, replica, problem)
    views = views_of(plan, problem)
    yield from _routes(plan, views, problem)
    yield from _cost(plan, problem)
    yield from _rules(plan, views, problem) if rules else ()


def _structure(plan: Plan, problem: Problem) -> Iterator[str]:
    if plan.machines != machines_left(plan):
        yield "the machines are not those of the spec"
        return
    if plan.context != context_of(problem.serve):
        yield f"the context is {plan.context}, not {context_of(problem.serve)}"
    if not plan.replicas:
        yield "there is no replica"
    lost = tuple(_devices(plan))
    yield from lost
    for replica in plan.replicas:
        yield from _layers(replica, problem)
        yield from () if lost else (*_stages(plan, replica, problem), *_places(plan, replica, problem))


def _devices(plan: Plan) -> Iterator[str]:
    there = {d.id: (m.id, d.gpu) for m in plan.machines for d in m.devices}
    used = Counter(d for r in plan.replicas for d in r.devices)
    yield from (f"GPU {d} is used {n} times" for d, n in sorted(used.items()) if n > 1)
    for stage in (s for r in plan.replicas for s in r.stages):
        if not stage.devices:
            yield f"a stage on {stage.machine} has no GPU"
        for device in stage.devices:
            if there.get(device) != (stage.machine, stage.gpu):
                yield f"GPU {device} is not a {stage.gpu} of {stage.machine}"


def _layers(replica: Replica, problem: Problem) -> Iterator[str]:
    bounds = [0, *(s.layers[1] for s in replica.stages)]
    starts = [s.layers[0] for s in replica.stages]
    empty = any(a >= b for a, b in (s.layers for s in replica.stages))
    if starts != bounds[:-1] or bounds[-1] != problem.arch.layers or empty:
        held = [s.layers for s in replica.stages]
        yield f"{replica.name} does not hold layers 0 to {problem.arch.layers} once each: {held}"
    if not 1 <= replica.max_batch <= problem.engine.max_batch:
        yield f"{replica.name} runs {replica.max_batch} requests together, {problem.engine.max_batch} are allowed"


def _stages(plan: Plan, replica: Replica, problem: Problem) -> Iterator[str]:
    for stage in replica.stages:
        if not tp_divides(problem.arch, stage.tp):
            yield f"{replica.name}: {stage.tp} GPUs cannot share {problem.arch.heads} heads"
    if any(h is None for h in hops_of(plan, replica, problem)):
        yield f"{replica.name}: neighbouring stages have no link"


def _places(plan: Plan, replica: Replica, problem: Problem) -> Iterator[str]:
    """Replicas lie where their phases may."""
    names = [c.name for c in problem.classes]
    classes = {names.index(plan.machine(s.machine).group) for s in replica.stages}
    if not problem.may_do(replica.role, classes):
        yield f"{replica.name} lies outside of the places of its phase"


def _memory(plan: Plan, replica: Replica, problem: Problem) -> Iterator[str]:
    for stage in replica.stages:
        cls, part, found = class_of(plan, stage, problem), Slice(*stage.layers, stage.tp), stage.memory
        kv = replica.kv_tokens * float(kv_token_bytes(problem.arch, cls.formats, part))
        weights = float(weight_bytes(problem.arch, cls.formats, part))
        free = float(free_kv_bytes(cls.gpu, problem.arch, cls.formats, part, problem.engine))
        if kv > free + 1:
            yield f"{replica.name}: {stage.machine} has {free:.0f} bytes for a KV cache of {kv:.0f}"
        if abs(found.weights_bytes - weights) > 1 or abs(found.kv_bytes - kv) > 1:
            yield f"{replica.name}: {stage.machine} holds {weights:.0f} + {kv:.0f} bytes, not what the plan says"
        if abs(found.capacity_bytes - weights - found.other_bytes - free) > 4:
            yield f"{replica.name}: {stage.machine}: capacity and buffers are not what the plan says"
    together = 1 if replica.role == "prefill" else replica.max_batch
    needed = max(problem.context, together * problem.tokens_per_request)
    if replica.kv_tokens <= needed - BLOCK:
        yield f"{replica.name}: {replica.kv_tokens} KV tokens where {needed:.0f} are needed"


def _routes(plan: Plan, views: tuple[View, ...], problem: Problem) -> Iterator[str]:
    names = [r.replica for r in plan.routes]
    if sorted(names) != sorted(r.name for r in plan.entries) or any(r.weight < 0 for r in plan.routes):
        yield "routes do not name each replica that takes requests once"
    if abs(sum(r.weight for r in plan.routes) - 1) > CLOSE * max(1, len(plan.routes)):
        yield "routes do not add up to one"
    yield from _handed(plan, problem)
    served = plan.served_req_per_s
    weights = {r.replica: r.weight for r in plan.routes}
    for replica, view in zip(plan.replicas, views, strict=True):
        capacity = _most(view, problem)
        if not replica.rate_req_per_s <= replica.capacity_req_per_s * (1 + CLOSE) <= capacity * (1 + 2 * CLOSE):
            yield f"{replica.name} gets {replica.rate_req_per_s} of {capacity} requests/s"
        off = abs(weights.get(replica.name, 0.0) * served - replica.rate_req_per_s)
        if replica.role != "decode" and off > CLOSE * max(served, 1e-9):
            yield f"{replica.name} gets {replica.rate_req_per_s} requests/s, but a share of {weights.get(replica.name)}"
    if problem.arrivals is not None and served > problem.arrivals * (1 + CLOSE):
        yield f"{served} requests/s are served of {problem.arrivals} that arrive"


def _most(view: View, problem: Problem) -> float:
    """Requests/s that a replica can do at most in what it does."""
    load, replica = problem.load, view.replica
    if replica.role == "prefill":
        return 1 / float(view.line.prompt_gap(load.prompt, load.cv_prompt))
    return float(view.line.rate(float(replica.max_batch), load, prefill=replica.role == "both"))


def _handed(plan: Plan, problem: Problem) -> Iterator[str]:
    """Handovers: from prefill to decode replicas, all of a source's requests, within what replicas and links take."""
    roles, rates = {r.name: r.role for r in plan.replicas}, {r.name: r.rate_req_per_s for r in plan.replicas}
    taken = dict.fromkeys(rates, 0.0)
    for handover in plan.handovers:
        if (roles.get(handover.source), roles.get(handover.target)) != ("prefill", "decode"):
            yield f"{handover.source} hands over to {handover.target}, which are no prefill and decode replica"
            continue
        flow = handover.weight * rates[handover.source]
        taken[handover.target] += flow
        source, target = (next(r for r in plan.replicas if r.name == n) for n in (handover.source, handover.target))
        link = link_of(plan, problem, source, target)
        if link is None or flow * kv_bytes(problem, handover.bits) > link.bandwidth * (1 + CLOSE):
            yield f"no link carries the KV caches from {handover.source} to {handover.target}"
    for name, role in roles.items():
        shares = [h.weight for h in plan.handovers if h.source == name]
        if role == "prefill" and rates[name] > 0 and abs(sum(shares) - 1) > 1e-4:
            yield f"{name} hands over {sum(shares):.4g} of its requests"
        if role == "decode" and abs(taken[name] - rates[name]) > 1e-3 * max(rates[name], 1e-9):
            yield f"{name} is handed {taken[name]:.6g} requests/s, the plan says {rates[name]}"


def _cost(plan: Plan, problem: Problem) -> Iterator[str]:
    prices = {c.name: c.usd_per_h or 0.0 for c in problem.classes}
    groups = {m.id: m.group for m in plan.machines}
    total = 0.0
    for replica in plan.replicas:
        cost = sum(prices[groups[s.machine]] * s.tp for s in replica.stages)
        total += cost
        if abs(cost - replica.cost_usd_per_h) > CLOSE * max(1e-3, cost):
            yield f"the plan says {replica.cost_usd_per_h} $/h for {replica.name}, its GPUs cost {cost}"
    if abs(total - plan.cost_usd_per_h) > CLOSE * max(1e-3, total):
        yield f"the plan says {plan.cost_usd_per_h} $/h, its GPUs cost {total}"


def _rules(plan: Plan, views: tuple[View, ...], problem: Problem) -> Iterator[str]:
    figures = Figures(plan, views, problem)
    for rule in written_rules(problem.serve):
        found = check(rule, figures)
        if not found.holds:
            yield f"`{rule.text}` does not hold: {found.value} against {found.limit}"
