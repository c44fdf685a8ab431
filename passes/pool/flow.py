"""The true flow of a placement: a maximum flow on the graph of nodes and wires, computed apart from the planner.

Source -> holders of the first layer -> ... -> holders of the last layer -> sink.  Holder j may follow holder i where
end_i = first_j; with `partial`, where first_j <= end_i < end_j, since j may leave out layers that i has done (Helix,
ASPLOS 2025, section 4).  Each holder is an edge of its own with its rate as capacity, and its network card bounds both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
from networkx.algorithms.flow import preflow_push

from hexdsl.passes.pool.kinds import FREE, Holder, Links

UNIT = 1e-3
"""Tokens/s in which capacities are counted: whole numbers make flows and cuts exact.  They are rounded down."""

SOURCE, SINK = "source", "sink"
_End = tuple[str, str]


@dataclass(frozen=True)
class Flow:
    """Tokens/s in all, and over each pair of neighbours; the outside is `source` and `sink`.

    `binding` names what a minimum cut crosses: nodes, or pairs of neighbours.
    """

    value: float
    through: Mapping[tuple[str, str], float]
    binding: tuple[str, ...]

    @property
    def depth(self) -> float:
        """Nodes on a path, weighted by flow."""
        visits = sum(f for (a, _), f in self.through.items() if a != SOURCE)
        return visits / self.value if self.value else 0.0

    @property
    def nodes(self) -> int:
        """Nodes that see any flow."""
        return len({b for (_, b), f in self.through.items() if f > 0 and b != SINK})


def max_flow(holders: Sequence[Holder], layers: int, links: Links = FREE, partial: bool = False) -> Flow:
    """The maximum flow, by preflow-push."""
    graph = nx.DiGraph()
    graph.add_nodes_from((SOURCE, SINK))
    for holder in holders:
        graph.add_edge((holder.name, "in"), (holder.name, "out"), capacity=_units(min(holder.rate, links.nic)))
    for a, b, capacity in _edges(holders, layers, links, partial):
        graph.add_edge(a, b, capacity=_units(capacity))
    residual = preflow_push(graph, SOURCE, SINK)
    through = {
        (_name(a), _name(b)): residual[a][b]["flow"] * UNIT
        for a, b in graph.edges
        if _name(a) != _name(b) and residual[a][b]["flow"] > 0
    }
    value = sum(f for (a, _), f in through.items() if a == SOURCE)
    return Flow(value, through, _cut(graph, residual))


def _edges(
    holders: Sequence[Holder], layers: int, links: Links, partial: bool
) -> Iterator[tuple[str | _End, str | _End, float]]:
    starts: dict[int, list[Holder]] = {}
    for holder in holders:
        starts.setdefault(holder.first, []).append(holder)
        if holder.first == 0:
            yield SOURCE, (holder.name, "in"), links.entry.tokens_s
        if holder.end == layers:
            yield (holder.name, "out"), SINK, links.entry.tokens_s
    for a in holders:
        followers = [b for b in holders if b.first <= a.end < b.end] if partial else starts.get(a.end, ())
        for b in followers:
            yield (a.name, "out"), (b.name, "in"), links.wire(a.region, b.region).tokens_s


def _units(tokens_s: float) -> int:
    return math.floor(min(tokens_s, 1e12) / UNIT + 1e-6)


def _name(end: str | _End) -> str:
    return end if isinstance(end, str) else end[0]


def _cut(graph: nx.DiGraph, residual: nx.DiGraph) -> tuple[str, ...]:
    """The full edges between what the source can still reach and the rest."""
    reached, todo = {SOURCE}, [SOURCE]
    while todo:
        a = todo.pop()
        fresh = [b for b, e in residual[a].items() if e["flow"] < e["capacity"] and b not in reached]
        reached.update(fresh)
        todo += fresh
    crossing = [(_name(a), _name(b)) for a, b in graph.edges if a in reached and b not in reached]
    return tuple(sorted(a if a == b else f"{a} -> {b}" for a, b in crossing))
