"""Stages x patterns of kinds: one replicated pipeline whose stages may each be served by several unlike nodes.

The problem is Helix's (ASPLOS 2025, section 4.2): place contiguous layer ranges of one model on mixed nodes so that the
most tokens/s flow.  Helix has binaries for each node and each pair of nodes; here nodes of a kind are counted.

Sets and data
    kinds t with n_t nodes; t_t(l) tokens/s of a node of kind t that holds l layers; L layers; F the flow that is wanted
    patterns q = (p, a, b): p_t nodes of each kind that together serve F at every stage length from a to b layers,
    sum_t p_t t_t(l) >= F for a <= l <= b; minimal: at some of these lengths no node can be taken away
Variables
    y_q whole, stages of pattern q;  c <= L, layers that are covered
Objective and constraints, for a given F
    max c,  c <= sum_q b_q y_q,  sum_q a_q y_q <= L            F is feasible where c = L: lengths in [a, b] add up to L
    sum_q p_qt y_q <= n_t  for each kind t;   sum_q y_q <= S   where the depth is limited
Feasibility falls with F, so that bisection finds the best F; after each success F rises to what the plan really serves.
At the best F the fewest stages are taken, and of those plans one with the fewest nodes.
Where rates fall with the layers all a_q are 1; where a measured table rises at a place, a pattern may have gaps, and
each stretch of lengths without one is a pattern of its own, so that such tables need no special case.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, islice

import numpy as np

from hexdsl.passes.pool.bounds import flow_bound
from hexdsl.passes.pool.kinds import Floats, Kind, Line, Stage, table
from hexdsl.solve import (
    ConcreteModel,
    Constraint,
    Goal,
    Limits,
    NonNegativeIntegers,
    Objective,
    Solution,
    Var,
    lexicographic,
    maximize,
    minimize,
    quicksum,
    solve,
)

TOLERANCE = 1e-4
"""Relative width at which the bisection ends."""

MOST_PATTERNS = 1500
"""Beyond so many, stages mix fewer kinds."""

LIMITS = Limits(max_nodes=2_000, time_s=20.0)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Nodes of each kind that serve the wanted flow at every stage length from `least` to `most` layers."""

    nodes: tuple[int, ...]
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Gate:
    """A region that needs `count` stages with as many nodes that a flow can pass over wires of `tokens_s` each.

    Two stages of p and p' nodes have p p' wires between them.  Such a stage has at least F / tokens_s nodes, so that
    any stage may be its neighbour, or where `both` ends of the wires have a gate, the square root of that.
    """

    region: str
    tokens_s: float
    count: int
    both: bool

    def nodes(self, flow: float) -> int:
        pairs = flow / self.tokens_s
        return math.ceil((math.sqrt(pairs) if self.both else pairs) - 1e-9)


@dataclass(frozen=True)
class Search:
    """Kinds of a pool under a model of `layers` layers, with at most `depth` stages.

    `local` keeps the nodes of a stage in one region.
    """

    kinds: tuple[Kind, ...]
    layers: int
    depth: int | None = None
    local: bool = False
    gates: tuple[Gate, ...] = ()

    @cached_property
    def rates(self) -> Floats:
        return table(self.kinds, self.layers)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The kinds that a stage may mix."""
        if not self.local:
            return (tuple(range(len(self.kinds))),)
        regions = dict.fromkeys(k.region for k in self.kinds)
        return tuple(tuple(t for t, k in enumerate(self.kinds) if k.region == r) for r in regions)

    def bound(self) -> float:
        return flow_bound(self.kinds, self.layers, self.depth)


def plan_line(kinds: Sequence[Kind], layers: int, depth: int | None = None) -> Line | None:
    """The pipeline with the most flow, with at most `depth` stages; None where the pool cannot hold the model."""
    return best_line(Search(tuple(kinds), layers, depth))


def best_line(search: Search, between: tuple[float, float] = (0.0, math.inf)) -> Line | None:
    """The line of a search.  `between` are flows known to be feasible and not to be exceeded."""
    high = min(between[1], search.bound())
    if high <= 0:
        return None
    low = max(between[0], high * 1e-6)
    best, exact = attempt(search, low)
    while best is not None and high - low > TOLERANCE * high:
        flow = _middle(low, high)
        found, proven = attempt(search, flow)
        exact &= proven
        if found is None:
            high = flow
        else:
            best, low = found, flow if search.gates else found.flow
    return None if best is None else replace(_shortest(search, best, low), complete=exact, tolerance=TOLERANCE)


def _middle(low: float, high: float) -> float:
    """The next flow to try: in the middle of the logarithms, where the ends are far apart."""
    return math.sqrt(low * high) if high > 4 * low else (low + high) / 2


def front(kinds: Sequence[Kind], layers: int) -> tuple[Line, ...]:
    """The Pareto front of depth against flow: for each number of stages that gains flow, the best pipeline."""
    best = plan_line(kinds, layers)
    if best is None:
        return ()
    found: list[Line] = []
    for depth in range(1, best.depth):
        low = found[-1].flow if found else 0.0
        line = best_line(Search(tuple(kinds), layers, depth), (low, best.flow))
        if line is not None and line.flow > low * (1 + TOLERANCE):
            found.append(line)
    return (*found, best)


def attempt(search: Search, flow: float) -> tuple[Line | None, bool]:
    """A pipeline of at least this flow, or none; and whether that is certain."""
    patterns, complete = patterns_of(search, flow)
    model = _programme(search, patterns, flow)
    if model is None:
        return None, complete
    solution = solve(model, LIMITS)
    covered = solution.found and round(model.c.value) >= search.layers
    if covered:
        return _line(search, patterns, model), complete
    return None, complete and _refuted(solution, search)


def _refuted(solution: Solution, search: Search) -> bool:
    return solution.status in ("optimal", "infeasible") or (
        solution.bound is not None and solution.bound < search.layers - 0.5
    )


def _shortest(search: Search, line: Line, flow: float) -> Line:
    """A pipeline of at least a flow that is known to be feasible, with the fewest stages, and then the fewest nodes."""
    patterns, _ = patterns_of(search, flow * (1 - 1e-9))
    model = _programme(search, patterns, flow * (1 - 1e-9))
    if model is None:
        return line
    model.goal.deactivate()
    model.all = Constraint(expr=model.c >= search.layers)
    stages = quicksum(model.y[q] for q in model.y)
    nodes = quicksum(sum(p.nodes) * model.y[q] for q, p in enumerate(patterns))
    solutions = lexicographic(model, (Goal(stages, minimize, "stages"), Goal(nodes, minimize, "nodes")), LIMITS)
    if not solutions or not solutions[-1].found:
        return line
    found = _line(search, patterns, model)
    return min(line, found, key=lambda x: (x.flow < flow * (1 - 1e-9), x.depth, x.nodes))


def _programme(search: Search, patterns: Sequence[Pattern], flow: float) -> ConcreteModel | None:
    """The programme; None where there are no patterns, or none for a gate."""
    gates = [_members(search, patterns, g, flow) for g in search.gates]
    if not patterns or not all(gates):
        return None
    model, counts = ConcreteModel(), [k.count for k in search.kinds]
    most = [min(n // p for n, p in zip(counts, q.nodes, strict=True) if p) for q in patterns]
    model.y = Var(range(len(patterns)), domain=NonNegativeIntegers, bounds=lambda m, q: (0, most[q]))
    model.c = Var(bounds=(0, search.layers))
    model.cover = Constraint(expr=model.c <= quicksum(p.most * model.y[q] for q, p in enumerate(patterns)))
    model.fit = Constraint(expr=quicksum(p.least * model.y[q] for q, p in enumerate(patterns)) <= search.layers)
    members = [[(q, p.nodes[t]) for q, p in enumerate(patterns) if p.nodes[t]] for t in range(len(counts))]
    model.nodes = Constraint(
        [t for t in range(len(counts)) if members[t]],
        rule=lambda m, t: quicksum(n * m.y[q] for q, n in members[t]) <= counts[t],
    )
    if search.depth is not None:
        model.depth = Constraint(expr=quicksum(model.y[q] for q in model.y) <= search.depth)
    model.gates = Constraint(
        range(len(gates)), rule=lambda m, g: quicksum(m.y[q] for q in gates[g]) >= search.gates[g].count
    )
    model.goal = Objective(expr=model.c, sense=maximize)
    return model


def _members(search: Search, patterns: Sequence[Pattern], gate: Gate, flow: float) -> list[int]:
    """The patterns whose nodes in the gate's region are enough for it."""
    inside = [t for t, k in enumerate(search.kinds) if k.region == gate.region]
    return [q for q, p in enumerate(patterns) if sum(p.nodes[t] for t in inside) >= gate.nodes(flow)]


def _widened(search: Search, nodes: tuple[int, ...], gate: Gate, flow: float) -> tuple[int, ...] | None:
    """More nodes of a gate's region than the flow needs, for the sake of the wires: of the kinds with most to spare."""
    inside = [t for t, k in enumerate(search.kinds) if k.region == gate.region]
    missing, found = gate.nodes(flow) - sum(nodes), list(nodes)
    if missing <= 0 or not all(t in inside for t, n in enumerate(nodes) if n):
        return None
    for t in sorted(inside, key=lambda t: nodes[t] - search.kinds[t].count):
        more = min(missing, search.kinds[t].count - nodes[t])
        found[t], missing = found[t] + more, missing - more
    return None if missing else tuple(found)


def _line(search: Search, patterns: Sequence[Pattern], model: ConcreteModel) -> Line:
    chosen = [p for q, p in enumerate(patterns) for _ in range(round(model.y[q].value))]
    lengths = _lengths(search, chosen)
    stages, first = list[Stage](), 0
    for pattern, length in sorted(zip(chosen, lengths, strict=True), key=lambda c: ([-n for n in c[0].nodes], -c[1])):
        stages.append(Stage(first, first + length, pattern.nodes, _rate(search.rates, pattern, length)))
        first += length
    return Line(search.kinds, tuple(stages))


def _lengths(search: Search, chosen: Sequence[Pattern]) -> list[int]:
    """Stage lengths that add up to the model: surplus layers are taken from the slowest stage that can be shorter."""
    rates, lengths = search.rates, [p.most for p in chosen]
    for _ in range(sum(lengths) - search.layers):
        able = [i for i, p in enumerate(chosen) if lengths[i] > p.least]
        slowest = min(able, key=lambda i: _rate(rates, chosen[i], lengths[i]))
        lengths[slowest] -= 1
    return lengths


def _rate(rates: Floats, pattern: Pattern, length: int) -> float:
    return float(np.array(pattern.nodes) @ rates[:, length - 1])


def patterns_of(search: Search, flow: float) -> tuple[tuple[Pattern, ...], bool]:
    """The patterns that serve a flow, none of them beaten by another; and whether all of them are there."""
    every = max(map(len, search.groups))
    for mixed in (every, 3, 2, 1):
        found = list(islice(_all_nodes(search, flow, mixed), MOST_PATTERNS + 1))
        if len(found) <= MOST_PATTERNS or mixed == 1:
            wide = {w for nodes in found for g in search.gates if (w := _widened(search, nodes, g, flow))}
            made = [p for nodes in found for p in _stretches(nodes, search.rates, flow)]
            more = [p for nodes in sorted(wide) for p in _stretches(nodes, search.rates, flow)]
            return (*_unbeaten(made), *more), mixed >= every
    raise AssertionError


def _all_nodes(search: Search, flow: float, mixed: int) -> Iterator[tuple[int, ...]]:
    """The minimal sets of nodes at any stage length, with at most so many kinds in one, each once."""
    seen: set[tuple[int, ...]] = set()
    for column, some in _mixtures(search, mixed):
        for nodes in _minimal(column, [k.count for k in search.kinds], some, flow):
            if nodes not in seen:
                seen.add(nodes)
                yield nodes


def _mixtures(search: Search, mixed: int) -> Iterator[tuple[Floats, tuple[int, ...]]]:
    """Each stage length's rates, with the kinds that may serve a stage together, from fast to slow."""
    for column in search.rates.T:
        for group in search.groups:
            able = [t for t in sorted(group, key=lambda t: -column[t]) if column[t] > 0 and search.kinds[t].count]
            for some in combinations(able, min(mixed, len(able))):
                yield column, some


def _minimal(column: Floats, counts: Sequence[int], kinds: Sequence[int], flow: float) -> Iterator[tuple[int, ...]]:
    """Sets of nodes that serve the flow but do not without any one of them.

    Nodes are added from fast to slow until they suffice: without the last one, the slowest, they do not.
    """
    taken = [0] * len(counts)

    def grow(at: int, missing: float) -> Iterator[tuple[int, ...]]:
        if at == len(kinds):
            return
        kind = kinds[at]
        enough = max(0, math.ceil((missing - 1e-12 * flow) / column[kind]))
        for count in range(min(counts[kind], enough), -1, -1):
            taken[kind] = count
            if count == enough:
                yield tuple(taken)
            else:
                yield from grow(at + 1, missing - count * float(column[kind]))
        taken[kind] = 0

    yield from grow(0, flow)


def _stretches(nodes: tuple[int, ...], rates: Floats, flow: float) -> Iterator[Pattern]:
    """The stretches of stage lengths at which these nodes serve the flow."""
    serves = np.concatenate([[False], np.array(nodes) @ rates >= flow * (1 - 1e-12), [False]])
    for kind, row in enumerate(rates):
        if nodes[kind]:
            serves[1:-1] &= row > 0
    edges = np.flatnonzero(serves[1:] != serves[:-1])
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield Pattern(nodes, start + 1, stop)


def _unbeaten(patterns: Sequence[Pattern]) -> tuple[Pattern, ...]:
    """Patterns for which no other needs no more nodes and allows every length that they allow."""
    if not patterns:
        return ()
    nodes = np.array([p.nodes for p in patterns])
    least, most = np.array([p.least for p in patterns]), np.array([p.most for p in patterns])
    keys = np.lexsort((least, -most, nodes.sum(axis=1)))
    kept: list[int] = []
    for i in keys.tolist():
        beats = (nodes[kept] <= nodes[i]).all(axis=1) & (least[kept] <= least[i]) & (most[kept] >= most[i])
        if not beats.any():
            kept.append(i)
    return tuple(patterns[i] for i in sorted(kept))
