"""What a pool adds to a plan: what its router needs to choose chains, and what churn does to the service."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from hexdsl.costs.network import transfer
from hexdsl.ir.plan import Availability, Chains, Decision, Holder, Plan, Stage
from hexdsl.ir.spec.cluster import PeerGroup
from hexdsl.ir.spec.serve import PerRequest, Serve
from hexdsl.passes.inventory import groups_of
from hexdsl.passes.serve.priced import pipeline_of
from hexdsl.passes.serve.problem import Problem, problem_of

NOTICE_S = 30.0
"""Until a peer that says nothing counts as gone: the heartbeat's time limit of Parallax (GradientHQ/parallax)."""


def chains(plan: Plan) -> Plan:
    """Says what a router needs to choose a chain of peers for each request, and how churn tells on the plan.

    Chains follow Parallax (arXiv 2509.26182, section on request-time chain selection); where peers leave at a rate, the
    share of the time in which replicas and chains are whole is computed exactly for peers that leave independently.
    Needs `replicas` and `routes`, gives `chains`.
    """
    serve = plan.workflow
    assert isinstance(serve, Serve)
    if serve.on.peers is None:
        return plan
    problem, found = problem_of(plan), plan
    if isinstance(serve.routing, PerRequest):
        made = _chains(plan, problem, serve.routing)
        found = found.with_(chains=made, decisions=(*found.decisions, _routed(made)))
    if serve.on.churn:
        availability = _availability(found, serve.on.churn)
        said = _said(availability, found)
        found = found.with_(availability=availability, decisions=(*found.decisions, said))
    return found


def _chains(plan: Plan, problem: Problem, routing: PerRequest) -> Chains:
    groups = {m.id: m.group for m in plan.machines}
    places = sorted({groups[s.machine] for r in plan.replicas for s in r.stages})
    holders = tuple(_holders(plan, problem, {name: i for i, name in enumerate(places)}, groups))
    size = problem.arch.hidden * 2.0
    links = [[problem.network.link(a, b) for b in places] for a in places]
    delays = tuple(tuple(None if link is None else float(transfer(link, size)) for link in row) for row in links)
    return Chains(cost=routing.cost, layers=problem.arch.layers, holders=holders, places=tuple(places), delays_s=delays)


def _holders(plan: Plan, problem: Problem, places: dict[str, int], groups: dict[str, str]) -> Iterator[Holder]:
    for replica in plan.replicas:
        line = pipeline_of(plan, replica, problem)
        for stage, cost in zip(replica.stages, line.stages, strict=True):
            yield Holder(
                machine=stage.machine,
                replica=replica.name,
                layers=stage.layers,
                layer_s=float(cost.decode(1.0, problem.load.context).total),
                seats=replica.max_batch,
                place=places[groups[stage.machine]],
            )


def _routed(made: Chains) -> Decision:
    scarce = copies(h.layers for h in made.holders)
    by = "least latency over what the peers have to do" if made.cost == "latency" else "the plan's shares and queues"
    return Decision(
        by="chains",
        what="routing",
        choice=f"a chain of peers for each request, over {len(made.holders)} holders of layers",
        reason=f"by {by}; each layer is held by {scarce} or more, and chains may join stages of different replicas",
    )


def _said(found: Availability, plan: Plan) -> Decision:
    whole = "some chain" if plan.chains else "some replica"
    return Decision(
        by="chains",
        what="churn",
        choice=f"{whole} is whole {_share(found.some)} of the time; {_share(found.replicas)} of the load has its own",
        reason=f"{found.leaves_per_h:.3g} peers in use leave in an hour, and {found.repair_s:.0f} s pass until their "
        "layers are held again, if another peer takes them",
    )


def _share(value: float) -> str:
    """A share with as many digits as tell it from one."""
    lacking = 1 - value
    digits = 2 if lacking <= 0 else min(8, max(2, -math.floor(math.log10(lacking)) - 1))
    return f"{100 * value:.{digits}f}%"


def _availability(plan: Plan, churn: float) -> Availability:
    """`churn` is the share of the peers that leave in a second."""
    stages = [s for r in plan.replicas for s in r.stages]
    repairs = repair_times(plan)
    up = {s.machine: 1 / (1 + churn * repairs[s.machine]) for s in stages}
    whole = {r.name: math.prod(up[s.machine] for s in r.stages) for r in plan.replicas}
    if plan.chains is None:
        some = 1 - math.prod(1 - w for w in whole.values())
    else:
        some = covered([(*s.layers, up[s.machine]) for s in stages], plan.chains.layers)
    return Availability(
        leaves_per_h=3600 * churn * len(up),
        repair_s=sum(repairs.values()) / len(repairs),
        replicas=sum(whole[r.replica] * r.weight for r in plan.routes),
        some=some,
        copies=copies(s.layers for s in stages),
    )


def repair_times(plan: Plan) -> dict[str, float]:
    """By machine in use, seconds from its leaving until another one like it holds its layers: notice and download."""
    downs = {g.name: g.down for g in groups_of(plan.workflow.on) if isinstance(g, PeerGroup)}
    groups = {m.id: m.group for m in plan.machines}

    def seconds(stage: Stage) -> float:
        down = downs.get(groups[stage.machine], math.inf)
        return NOTICE_S + stage.memory.weights_bytes * stage.tp / down

    return {s.machine: seconds(s) for r in plan.replicas for s in r.stages}


def covered(holders: Sequence[tuple[int, int, float]], layers: int) -> float:
    """The probability that those who are there hold every layer; each is, by itself, with a probability of its own.

    Holders `(first, end, probability)` in order of their first layer: the state is how far the layers are covered.
    """
    reach = {0: 1.0}
    for first, end, there in sorted(holders):
        after: dict[int, float] = {}
        for at, share in reach.items():
            if at < first:
                continue  # layer `at` is held by nobody who is there, and later holders begin behind it
            after[max(at, end)] = after.get(max(at, end), 0.0) + share * there
            after[at] = after.get(at, 0.0) + share * (1 - there)
        reach = after
    return min(1.0, reach.get(layers, 0.0))


def copies(ranges: Iterable[tuple[int, int]]) -> int:
    """How many hold the layer that the fewest hold."""
    steps: Counter[int] = Counter()
    for first, end in ranges:
        steps[first] += 1
        steps[end] -= 1
    edges, held, least = sorted(steps), 0, None
    for edge in edges[:-1]:
        held += steps[edge]
        least = held if least is None else min(least, held)
    return least or 0
