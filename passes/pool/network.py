"""Pools whose wires differ: the order of a pipeline's stages, and which regions share a pipeline at all.

1. Order.  Between neighbouring stages i, j of p_it and p_ju nodes the wires carry sum_tu p_it p_ju w(t, u) tokens/s.
   The order of the stages is free (layers are assigned along it), so the path over the stages whose narrowest gap is
   widest is taken, and of those the one with the least latency: greedy from every start, then 2-opt.
2. Stages.  Pipelines are made in several ways: with stages that may mix regions, with stages of one region each, and
   with stages at the regions' borders that have nodes enough for the wires that cross them (`Gate`); the true maximum
   flow (`hexdsl.passes.pool.flow`) says which is best.
3. Regions.  With v(M) the best flow of one pipeline over the units M (regions, or kinds within them) the best split is
       V(M) = max( v(M), max over parts A of M that hold its first unit:  V(A) + V(M - A) ),
   exact over all partitions.  v(M) is not computed where its bound says that it cannot beat the best split.
Slow wires between regions thus separate pipelines as soon as joining them does not pay (Parallax, arXiv 2509.26182,
keeps every pipeline in a region; Helix, ASPLOS 2025, lets them cross).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hexdsl.passes.pool.bounds import flow_bound
from hexdsl.passes.pool.flow import Flow, max_flow
from hexdsl.passes.pool.kinds import FREE, Floats, Holder, Kind, Line, Links, Stage
from hexdsl.passes.pool.patterns import Gate, Search, best_line

MOST_UNITS = 6
"""Units whose partitions are all considered; where there are more, those with the fastest wires stay together."""

SWEEPS = 20
"""Most passes of 2-opt over all pairs."""


@dataclass(frozen=True)
class Route:
    """A pipeline with its true flow over the wires."""

    line: Line
    flow: Flow


@dataclass(frozen=True)
class PoolPlan:
    """Pipelines side by side, the flow of all together, and what no placement beats."""

    routes: tuple[Route, ...]
    flow: Flow
    bound: float

    @property
    def holders(self) -> tuple[Holder, ...]:
        return tuple(h for route in self.routes for h in route.line.holders)

    @property
    def gap(self) -> float:
        return 1 - self.flow.value / self.bound if self.bound else 0.0


def plan_pool(kinds: Sequence[Kind], layers: int, links: Links = FREE, depth: int | None = None) -> PoolPlan | None:
    """The best pipelines of a pool; None where no part of it holds the model.  Names of kinds must differ.

    Raises ValueError where they do not.
    """
    if len({k.name for k in kinds}) != len(kinds):
        raise ValueError("two kinds have the same name")
    units = _units([k for k in kinds if k.count], links)
    best: dict[int, tuple[Route, ...]] = {0: ()}
    for mask in range(1, 1 << len(units)):
        split = max((best[a] + best[mask ^ a] for a in _parts(mask)), key=_total, default=())
        members = [k for i, unit in enumerate(units) if mask >> i & 1 for k in unit]
        worth = flow_bound(members, layers, depth) > _total(split) * (1 + 1e-9)
        whole = plan_route(members, layers, links, depth) if worth else None
        best[mask] = (whole,) if whole is not None and whole.flow.value > _total(split) else split
    routes = best[(1 << len(units)) - 1]
    if not routes:
        return None
    together = max_flow([h for r in routes for h in r.line.holders], layers, links)
    return PoolPlan(routes, together, flow_bound(kinds, layers, depth))


def _total(routes: Sequence[Route]) -> float:
    return sum(r.flow.value for r in routes)


def _parts(mask: int) -> Sequence[int]:
    """The parts of a set that hold its lowest unit and are not all of it."""
    low = mask & -mask
    rest = mask ^ low
    parts, part = list[int](), rest
    while part:
        part = (part - 1) & rest
        parts.append(part | low)
    return parts


def _units(kinds: Sequence[Kind], links: Links) -> list[list[Kind]]:
    """Kinds that are not parted: each for itself, or by region, or regions with the fastest wires between them."""
    if len(kinds) <= MOST_UNITS:
        return [[k] for k in kinds]
    regions = dict.fromkeys(k.region for k in kinds)
    units = [[k for k in kinds if k.region == r] for r in regions]
    while len(units) > MOST_UNITS:
        pairs = [(a, b) for b in range(len(units)) for a in range(b)]
        a, b = max(pairs, key=lambda p: (_nearness(units[p[0]], units[p[1]], links), -p[0], -p[1]))
        units[a] += units.pop(b)
    return units


def _nearness(a: Sequence[Kind], b: Sequence[Kind], links: Links) -> tuple[float, float]:
    wires = [links.wire(x.region, y.region) for x in a for y in b]
    return min(w.tokens_s for w in wires), -max(w.latency_s for w in wires)


def plan_route(kinds: Sequence[Kind], layers: int, links: Links, depth: int | None = None) -> Route | None:
    """The best single pipeline over these kinds, with its stages in the order that suits the wires."""
    search = Search(tuple(kinds), layers, depth)
    mixed = best_line(search)
    if mixed is None:
        return None
    best = _route(mixed, layers, links)
    for gates in () if links.alike else _gates(kinds, links):
        if best.flow.value >= mixed.flow * (1 - 1e-6):
            break
        local = best_line(replace(search, local=True, gates=gates), (0.0, mixed.flow))
        if local is not None:
            best = max(best, _route(local, layers, links), key=lambda r: r.flow.value)
    return best


def _gates(kinds: Sequence[Kind], links: Links) -> Iterator[tuple[Gate, ...]]:
    """What is asked of the stages at the regions' borders: nothing; wide ones on both sides; or wider ones on one side.

    Of wide ones a region that is passed through needs two.  Where only the side that is entered is wide, the region in
    which the pipeline begins needs none.
    """
    yield ()
    regions = list(dict.fromkeys(k.region for k in kinds))
    if len(regions) < 2:
        return
    widest = {r: max(links.wire(r, other).tokens_s for other in regions if other != r) for r in regions}
    for count in (1, 2)[: len(regions) - 1]:
        yield tuple(Gate(r, widest[r], count, both=True) for r in regions)
    for begin in regions:
        yield tuple(Gate(r, widest[r], 1, both=False) for r in regions if r != begin)


def _route(line: Line, layers: int, links: Links) -> Route:
    ordered = in_order(line, links)
    return Route(ordered, max_flow(ordered.holders, layers, links))


def in_order(line: Line, links: Links) -> Line:
    """The same stages along the path that suits the wires."""
    if links.alike or line.depth < 3:
        return line
    wide, slow = _gaps(line, links)
    start = max((_greedy(wide, slow, i) for i in range(line.depth)), key=lambda p: _worth(p, wide, slow))
    return _along(line, _two_opt(start, wide, slow))


def _gaps(line: Line, links: Links) -> tuple[Floats, Floats]:
    """Tokens/s and mean latency between every two stages, shape (stages, stages)."""
    wires = [[links.wire(a.region, b.region) for b in line.kinds] for a in line.kinds]
    rates = np.array([[min(w.tokens_s, links.nic, 1e12) for w in row] for row in wires])
    delays = np.array([[w.latency_s for w in row] for row in wires])
    nodes = np.array([s.nodes for s in line.stages], dtype=np.float64)
    shares = nodes / nodes.sum(axis=1, keepdims=True)
    return np.minimum(nodes @ rates @ nodes.T, line.flow), shares @ delays @ shares.T


def _greedy(wide: Floats, slow: Floats, start: int) -> list[int]:
    path, left = [start], set(range(len(wide))) - {start}
    while left:
        path.append(max(sorted(left), key=lambda j: (wide[path[-1], j], -slow[path[-1], j])))
        left.remove(path[-1])
    return path


def _worth(path: Sequence[int], wide: Floats, slow: Floats) -> tuple[float, float]:
    """The narrowest gap, and the latency of all; rounded, so that noise decides nothing."""
    return round(float(wide[path[:-1], path[1:]].min()), 6), -round(float(slow[path[:-1], path[1:]].sum()), 9)


def _two_opt(path: list[int], wide: Floats, slow: Floats) -> list[int]:
    """Turns stretches of the path round as long as that helps."""
    best = _worth(path, wide, slow)
    for _ in range(SWEEPS):
        before = best
        for i in range(len(path)):
            for j in range(i + 2, len(path) + 1):
                turned = path[:i] + path[i:j][::-1] + path[j:]
                if (worth := _worth(turned, wide, slow)) > best:
                    path, best = turned, worth
        if best == before:
            break
    return path


def _along(line: Line, path: Sequence[int]) -> Line:
    stages, first = list[Stage](), 0
    for i in path:
        stage = line.stages[i]
        stages.append(replace(stage, first=first, end=first + stage.layers))
        first += stage.layers
    return replace(line, stages=tuple(stages))
