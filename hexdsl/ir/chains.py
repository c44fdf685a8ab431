"""Which chain of nodes serves a request: chosen when it comes, from who holds which layers and how busy they are.

The router and the planner both use this: a small table, one row a holder.

Low load: the cheapest chain.  The graph has a vertex for each (layer, node): the request has passed the layers before
and the node does the next.  A layer costs the node's seconds at its present load, changing nodes costs the latency:
    d(l + 1, g) = min( d(l, g), min_h d(l, h) + rtt(h, g) ) + s_g(l)       s_g(l) infinite where g does not hold l
so that every layer is paid for.  Parallax (arXiv 2509.26182; its public router) adds up per-layer latencies once a
node, whatever the node's number of layers, and lets nodes follow only where ranges meet; here a chain may change
anywhere.
High load: the cheapest chain for each request herds all requests onto the same nodes.  The flow of the plan, taken
apart into chains with weights, says how much each chain can bear; `Turns` interleaves them (smooth weighted
round-robin, as in nginx) and deviates towards short measured queues, within `slack` turns, so that the weights hold in
the long run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A holder of the layers `[first, end)` and its seconds for one of them when nothing else runs."""

    node: str
    first: int
    end: int
    layer_s: float


@dataclass(frozen=True, slots=True)
class Hop:
    """The layers `[first, end)` are done by a node."""

    node: str
    first: int
    end: int


Chain = tuple[Hop, ...]
"""Hops that do every layer once, in order."""


def cheapest(rows: Sequence[Row], layers: int, rtt_s: Floats, load: Floats | None = None) -> tuple[Chain, float]:
    """The chain with the least seconds for one pass, and these seconds.

    `rtt_s[i, j]` are the seconds from row i to row j.  `load[i]` multiplies a node's seconds (1 when idle); infinite
    where a node takes no more.  Raises ValueError where some layer has no node that takes it.
    """
    pay = np.array([r.layer_s for r in rows]) * (1.0 if load is None else load)
    first, end = (np.array([getattr(r, name) for r in rows]) for name in ("first", "end"))
    cost = np.where(first == 0, pay, np.inf)
    came = np.full((layers, len(rows)), -1)
    for layer in range(1, layers):
        cost, came[layer] = _step(cost, rtt_s, np.where((first <= layer) & (layer < end), pay, np.inf))
    if not rows or not np.isfinite(cost).any():
        raise ValueError("no chain of nodes holds every layer and takes requests")
    best = int(np.argmin(cost))
    return _hops(rows, _walk(came, best, layers)), float(cost[best])


def _step(cost: Floats, rtt_s: Floats, pay: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Costs after one more layer, and from which node each came; to stay is taken where it is no dearer."""
    moved = cost[:, None] + rtt_s
    came = moved.argmin(axis=0)
    change = moved[came, np.arange(len(cost))]
    stays = cost <= change
    return np.where(stays, cost, change) + pay, np.where(stays, np.arange(len(cost)), came)


def _walk(came: NDArray[np.int64], last: int, layers: int) -> list[int]:
    """The node of each layer, from the last one back."""
    nodes = [last]
    for layer in range(layers - 1, 0, -1):
        nodes.append(int(came[layer, nodes[-1]]))
    return nodes[::-1]


def _hops(rows: Sequence[Row], nodes: Sequence[int]) -> Chain:
    starts = [0, *(i for i in range(1, len(nodes)) if nodes[i] != nodes[i - 1])]
    return tuple(Hop(rows[nodes[a]].node, a, b) for a, b in zip(starts, [*starts[1:], len(nodes)], strict=True))


@dataclass(frozen=True, slots=True)
class Weighted:
    """A chain and its weight, in tokens/s or any other unit."""

    chain: Chain
    weight: float


def chains_of(
    ranges: Mapping[str, tuple[int, int]], through: Mapping[tuple[str, str], float], least: float = 1e-9
) -> tuple[Weighted, ...]:
    """A flow from `source` to `sink` taken apart into chains, widest first: at most one a pair of neighbours.

    `ranges` says what each node holds.  A node whose range begins before its predecessor's ends does what is left.
    Parts below `least` of the whole are left out.
    """
    left = {pair: f for pair, f in through.items() if f > 0}
    total = sum(f for (a, _), f in left.items() if a == "source")
    found: list[Weighted] = []
    while (path := _widest(left)) is not None:
        width = min(left[pair] for pair in pairwise(path))
        for pair in pairwise(path):
            left[pair] -= width
            if left[pair] <= least * total:
                del left[pair]
        found.append(Weighted(_ranges(path[1:-1], ranges), width))
    return tuple(sorted(found, key=lambda w: (-w.weight, [h.node for h in w.chain])))


def _widest(left: Mapping[tuple[str, str], float]) -> list[str] | None:
    """The path from source to sink whose narrowest pair is widest (Dijkstra with max-min in place of sums)."""
    after: dict[str, list[tuple[str, float]]] = {}
    for (a, b), f in sorted(left.items()):
        after.setdefault(a, []).append((b, f))
    width, came, open_ = {"source": float("inf")}, dict[str, str](), {"source"}
    while open_:
        at = max(sorted(open_), key=lambda n: width[n])
        open_.remove(at)
        for b, f in after.get(at, ()):
            if min(width[at], f) > width.get(b, 0.0):
                width[b], came[b] = min(width[at], f), at
                open_.add(b)
    if "sink" not in came:
        return None
    path = ["sink"]
    while path[-1] != "source":
        path.append(came[path[-1]])
    return path[::-1]


def _ranges(nodes: Sequence[str], ranges: Mapping[str, tuple[int, int]]) -> Chain:
    hops, at = list[Hop](), 0
    for node in nodes:
        hops.append(Hop(node, at, ranges[node][1]))
        at = ranges[node][1]
    return tuple(hops)


class Turns:
    """Chains in turn by weight; among those that are due, the one whose fullest node has the shortest queue.

    Each turn adds every chain's share to its credit and takes 1 from the chosen one.  Due are the chains whose credit
    is within `slack` of the largest; 0 is plain weighted round-robin.  No chain falls behind its weight by more than
    slack + 1 turns, whatever the queues are.  Raises ValueError without chains.
    """

    def __init__(self, chains: Sequence[Weighted], slack: float = 1.0) -> None:
        total = sum(w.weight for w in chains)
        if not total > 0:
            raise ValueError("there are no chains with a weight")
        self.chains = tuple(w.chain for w in chains)
        self._share = np.array([w.weight / total for w in chains])
        self._credit = np.zeros(len(chains))
        self._slack = slack

    def next(self, queue: Callable[[str], float] = lambda node: 0.0) -> Chain:
        """The chain for the next request; `queue` is the measured seconds of work (or requests) before a node."""
        self._credit += self._share
        due = np.flatnonzero(self._credit >= self._credit.max() - self._slack - 1e-12)
        full = [max(queue(hop.node) for hop in self.chains[i]) for i in due]
        chosen = min(range(len(due)), key=lambda k: (round(full[k], 9), -self._credit[due[k]], due[k]))
        self._credit[due[chosen]] -= 1.0
        return self.chains[due[chosen]]
