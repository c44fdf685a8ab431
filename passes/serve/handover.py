"""The way of KV caches from prefill to decode replicas: which links they take, and how many requests a second.

The KV cache of a prompt of s tokens takes s * layers * (values a token and layer) * bits / 8 bytes.  Where a link
cannot carry as many as two replicas could serve, values are sent with 4 bits, and a scale and a zero of 16 bits for the
values of a head (ThunderServe, MLSys 2025, compresses KV caches for the way in the same manner).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hexdsl.costs.arch import kv_values
from hexdsl.costs.gpu import Link
from hexdsl.ir.plan import Handover, Machine, Plan, Replica
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.shapes import INNER, Shape
from hexdsl.sim.from_plan import Way
from hexdsl.solve import ConcreteModel, Constraint, NonNegativeReals, Var, minimize, quicksum, solve
from hexdsl.solve import Objective as Goal

NARROW_BITS = 4
"""Bits of a value of the KV cache where it is compressed for the way."""

Place = tuple[int, ...]
"""The classes of machines that a replica lies on, sorted."""


def place_of(shape: Shape) -> Place:
    """Where a replica of this shape lies."""
    return tuple(sorted({slot.cls for slot in shape.slots}))


def kv_bits(problem: Problem, classes: Sequence[int]) -> int:
    """Bits of a value of the KV cache as these machines hold it, the most where they differ."""
    return round(8 * max(problem.classes[c].formats.kv_bytes for c in classes))


def kv_bytes(problem: Problem, bits: int, tokens: float = 0.0) -> float:
    """Bytes of the KV cache of a prompt (of a mean one, unless `tokens` says otherwise) with so many bits a value."""
    arch = problem.arch
    scales = 32 / arch.head_dim if bits == NARROW_BITS else 0.0
    return (tokens or problem.prompt) * arch.layers * float(kv_values(arch)) * (bits + scales) / 8


def most_handed(problem: Problem, source: Place, target: Place) -> float:
    """Requests/s whose KV caches fit on the way between two replicas, compressed if need be."""
    found = [_between(problem, a, b) for a in source for b in target]
    if None in found:
        return 0.0
    return min(x.bandwidth for x in found if x is not None) / kv_bytes(problem, NARROW_BITS)


def _between(problem: Problem, a: int, b: int) -> Link | None:
    """The link of two machines of these classes; inside a machine where there is only one."""
    left, right = problem.classes[a], problem.classes[b]
    if a == b and left.count == 1:
        return problem.network.inside[left.name] or INNER
    return problem.network.link(left.name, right.name)


def link_of(plan: Plan, problem: Problem, source: Replica, target: Replica) -> Link | None:
    """The slowest link between the machines of two replicas, None where there is no way."""
    pairs = {(a.machine, b.machine) for a in source.stages for b in target.stages}
    found = [_machines(problem, plan.machine(a), plan.machine(b)) for a, b in sorted(pairs)]
    if None in found:
        return None
    links = [x for x in found if x is not None]
    return Link(min(x.bandwidth for x in links), max(x.latency_s for x in links))


def _machines(problem: Problem, a: Machine, b: Machine) -> Link | None:
    if a.id == b.id:
        return problem.network.inside[a.group] or INNER
    return problem.network.link(a.group, b.group)


def ways_of(plan: Plan, problem: Problem) -> tuple[Way, ...]:
    """The plan's handovers as what the simulator needs."""
    replicas = {r.name: r for r in plan.replicas}
    found = ((h, link_of(plan, problem, replicas[h.source], replicas[h.target])) for h in plan.handovers)
    return tuple(Way(h.source, h.target, link, kv_bytes(problem, h.bits, 1.0)) for h, link in found if link is not None)


@dataclass(frozen=True)
class Shared:
    """Loads of replicas in requests/s, in their order, and the handovers between them."""

    loads: tuple[float, ...]
    handovers: tuple[Handover, ...]


def share_out(plan: Plan, problem: Problem, served: float) -> Shared:
    """Shares a load out over replicas with phases so that the busiest is as little busy as can be.

    Sets: prefill replicas p, decode replicas d, whole ones w.  Variables: z_pd, x_w >= 0 requests/s; the busiest share
    u.  Minimise u with: sum of z and x = served; sum_d z_pd <= u r_p; sum_p z_pd <= u r_d; x_w <= u r_w; and
    z_pd <= u k_pd with k_pd what the link between p and d carries (the two-stage transportation problem of
    ThunderServe, MLSys 2025, as one programme).
    """
    first, then, whole = (_of(plan, role) for role in ("prefill", "decode", "both"))
    model = ConcreteModel()
    carried = {(p.name, d.name): _carried(plan, problem, p, d) for p in first for d in then}
    capacity = {r.name: r.capacity_req_per_s for r in plan.replicas}
    model.z = Var(sorted(carried), domain=NonNegativeReals)
    model.x = Var([w.name for w in whole], domain=NonNegativeReals)
    model.busiest = Var(domain=NonNegativeReals)
    model.all = Constraint(expr=quicksum([*model.z.values(), *model.x.values()]) == served)
    model.sent = Constraint(
        [p.name for p in first],
        rule=lambda m, p: quicksum(m.z[p, d.name] for d in then) <= capacity[p] * m.busiest,
    )
    model.taken = Constraint(
        [d.name for d in then],
        rule=lambda m, d: quicksum(m.z[p.name, d] for p in first) <= capacity[d] * m.busiest,
    )
    model.done = Constraint([w.name for w in whole], rule=lambda m, w: m.x[w] <= capacity[w] * m.busiest)
    model.links = Constraint(sorted(carried), rule=lambda m, p, d: m.z[p, d] <= carried[p, d] * m.busiest)
    model.goal = Goal(expr=model.busiest, sense=minimize)
    solve(model)
    flows = {pair: max(0.0, float(model.z[pair].value or 0.0)) for pair in carried}
    loads = {w.name: max(0.0, float(model.x[w.name].value or 0.0)) for w in whole}
    loads |= {p.name: sum(flows[p.name, d.name] for d in then) for p in first}
    loads |= {d.name: sum(flows[p.name, d.name] for p in first) for d in then}
    return Shared(tuple(loads[r.name] for r in plan.replicas), _handovers(plan, problem, flows, loads))


def _of(plan: Plan, role: str) -> tuple[Replica, ...]:
    return tuple(r for r in plan.replicas if r.role == role)


def _carried(plan: Plan, problem: Problem, source: Replica, target: Replica) -> float:
    link = link_of(plan, problem, source, target)
    return 0.0 if link is None else link.bandwidth / kv_bytes(problem, NARROW_BITS)


WORTH = 1e-4
"""Shares of a replica's requests below this are the solver's noise."""


def _handovers(
    plan: Plan, problem: Problem, flows: dict[tuple[str, str], float], loads: dict[str, float]
) -> tuple[Handover, ...]:
    """The flows as shares of their source, each with as many bits as its link has room for."""
    names = {r.name: r for r in plan.replicas}
    found: list[Handover] = []
    for source in _of(plan, "prefill"):
        mine = [(t, f) for (s, t), f in sorted(flows.items()) if s == source.name and f > WORTH * loads[s]]
        total = sum(f for _, f in mine)
        for target, flow in mine:
            bits = _bits(plan, problem, source, names[target], flow)
            found.append(Handover(source=source.name, target=target, weight=flow / total, bits=bits))
    return tuple(found)


BUSY_LINK = 0.8
"""Share of a link's bandwidth that KV caches may take before they are compressed."""


def _bits(plan: Plan, problem: Problem, source: Replica, target: Replica, flow: float) -> int:
    full = kv_bits(problem, [_class(problem, plan, s.machine) for s in source.stages])
    link = link_of(plan, problem, source, target)
    fits = link is not None and flow * kv_bytes(problem, full) <= BUSY_LINK * link.bandwidth
    return full if fits else min(full, NARROW_BITS)


def _class(problem: Problem, plan: Plan, machine: str) -> int:
    group = plan.machine(machine).group
    return next(i for i, c in enumerate(problem.classes) if c.name == group)
