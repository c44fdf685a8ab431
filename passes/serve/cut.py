"""What binds a plan: the minimum cut of the flow of requests through its replicas, and what sets each replica's pace.

The network has an edge for the arrivals, where the load limits them; from there to each replica that takes new
requests, of its capacity in requests/s; from prefill to decode replicas, of the KV caches that their link carries a
second (compressed if need be); and from each replica that ends requests to the sink.  Its maximum flow is what the
plan can serve; the edges of a minimum cut are what keeps it from serving more (Ford and Fulkerson, 1956; HexGen-2,
ICLR 2025, section 3.3, refines its groups along that cut).  Capacities are scaled to whole numbers, so that
preflow-push is exact.  A network may have several minimum cuts: the ones nearest to the source and to the sink do not
hang on the flow that was found, and where they differ, both bind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal

import networkx as nx
from networkx.algorithms.flow import preflow_push

from hexdsl.ir.base import Ir, Rounded
from hexdsl.ir.plan import Plan, Replica
from hexdsl.passes.serve.handover import NARROW_BITS, kv_bytes, link_of
from hexdsl.passes.serve.pace import Pace, pace_of
from hexdsl.passes.serve.problem import Problem, problem_of

UNITS = 10**6
"""Parts of a request/s in which capacities are whole numbers."""

SOURCE, ARRIVED, SINK = ("source", ""), ("arrived", ""), ("sink", "")

What = Literal["arrivals", "prefill", "link", "decode", "both"]


class Edge(Ir):
    """A part of the way of requests: the arrivals, a replica's capacity in its role, or a link between two replicas."""

    what: What
    names: tuple[str, ...]
    capacity_req_per_s: Rounded
    where: str = ""


class Bottleneck(Ir):
    """The cut of a plan: `edges` nearest to the source, `also` nearest to the sink where that is another."""

    flow_req_per_s: Rounded
    edges: tuple[Edge, ...]
    also: tuple[Edge, ...]
    capacities: tuple[Edge, ...]
    """What each role can do at most, all replicas together, and what all links between them carry."""
    paces: tuple[Pace, ...]


def bottleneck(plan: Plan) -> Bottleneck:
    """The minimum cut of a finished plan, and what sets the pace of its replicas."""
    problem = problem_of(plan)
    graph = flow_network(plan, problem)
    residual = preflow_push(graph, SOURCE, SINK)
    near, far = _cut(graph, _reached(residual, SOURCE)), _cut(graph, _short_of(residual, SINK))
    return Bottleneck(
        flow_req_per_s=residual.graph["flow_value"] / UNITS,
        edges=near,
        also=far if far != near else (),
        capacities=tuple(_capacities(graph)),
        paces=tuple(pace_of(plan, r, problem) for r in _distinct(plan)),
    )


def flow_network(plan: Plan, problem: Problem) -> Any:
    """The graph of the plan's capacities, each edge with what it stands for."""
    graph = nx.DiGraph()
    if problem.arrivals is None:
        total = sum(r.capacity_req_per_s for r in plan.replicas)
        graph.add_edge(SOURCE, ARRIVED, capacity=round(UNITS * total) + 1)
    else:
        _add(graph, SOURCE, ARRIVED, Edge(what="arrivals", names=(), capacity_req_per_s=problem.arrivals))
    graph.add_node(SINK)
    for r in plan.replicas:
        ends = {"both": (ARRIVED, SINK), "prefill": (ARRIVED, ("in", r.name)), "decode": (("out", r.name), SINK)}
        edge = Edge(what=r.role, names=(r.name,), capacity_req_per_s=r.capacity_req_per_s, where=_where(plan, r))
        _add(graph, *ends[r.role], edge)
    for edge in _links(plan, problem):
        _add(graph, ("in", edge.names[0]), ("out", edge.names[1]), edge)
    return graph


def _add(graph: Any, left: tuple[str, str], right: tuple[str, str], edge: Edge) -> None:
    """An edge; replicas that do both phases lie side by side, each with a node of its own."""
    if edge.what == "both":
        middle = ("at", edge.names[0])
        graph.add_edge(left, middle, capacity=int(UNITS * edge.capacity_req_per_s), edge=edge)
        graph.add_edge(middle, right, capacity=int(UNITS * edge.capacity_req_per_s) + 1)
        return
    graph.add_edge(left, right, capacity=int(UNITS * edge.capacity_req_per_s), edge=edge)


def _links(plan: Plan, problem: Problem) -> Iterator[Edge]:
    first, then = ([r for r in plan.replicas if r.role == role] for role in ("prefill", "decode"))
    for source in first:
        for target in then:
            link = link_of(plan, problem, source, target)
            if link is not None:
                most = link.bandwidth / kv_bytes(problem, NARROW_BITS)
                where = " <-> ".join(dict.fromkeys((_groups(plan, source), _groups(plan, target))))
                yield Edge(what="link", names=(source.name, target.name), capacity_req_per_s=most, where=where)


def _where(plan: Plan, r: Replica) -> str:
    kinds = Counter((s.gpu, plan.machine(s.machine).group) for s in r.stages for _ in s.devices)
    return " + ".join(f"{n} {gpu} of {group}" for (gpu, group), n in kinds.items())


def _groups(plan: Plan, r: Replica) -> str:
    return "+".join(dict.fromkeys(plan.machine(s.machine).group for s in r.stages))


def _reached(residual: Any, start: Any) -> set[Any]:
    """The source's side of the cut nearest to it: what more flow could still reach."""
    return _spread(start, lambda u: (v for v, e in residual[u].items() if e["capacity"] > e["flow"]))


def _short_of(residual: Any, end: Any) -> set[Any]:
    """The source's side of the cut nearest to the sink: all but what more flow could still leave for it."""
    back = _spread(end, lambda v: (u for u in residual.pred[v] if residual[u][v]["capacity"] > residual[u][v]["flow"]))
    return set(residual) - back


def _spread(start: Any, neighbours: Callable[[Any], Iterator[Any]]) -> set[Any]:
    seen, todo = {start}, [start]
    while todo:
        fresh = [v for v in neighbours(todo.pop()) if v not in seen]
        seen.update(fresh)
        todo += fresh
    return seen


def _cut(graph: Any, side: set[Any]) -> tuple[Edge, ...]:
    """The edges that leave a side, in the order in which they were added."""
    return tuple(e["edge"] for u, v, e in graph.edges(data=True) if u in side and v not in side and "edge" in e)


def _capacities(graph: Any) -> Iterator[Edge]:
    edges = [e["edge"] for _, _, e in graph.edges(data=True) if "edge" in e]
    for what in ("arrivals", "prefill", "link", "decode", "both"):
        some = [e for e in edges if e.what == what]
        if some:
            names = () if what in ("arrivals", "link") else tuple(n for e in some for n in e.names)
            yield Edge(what=what, names=names, capacity_req_per_s=sum(e.capacity_req_per_s for e in some))


def _distinct(plan: Plan) -> tuple[Replica, ...]:
    """The first of each set of replicas that are alike but for their machines."""
    seen: dict[object, Replica] = {}
    for r in plan.replicas:
        stages = tuple((s.layers, s.gpu, s.tp, plan.machine(s.machine).group) for s in r.stages)
        seen.setdefault((r.role, stages, r.max_batch), r)
    return tuple(seen.values())
