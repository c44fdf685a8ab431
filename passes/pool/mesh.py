"""Any placement, not only whole stages: an exact programme for small pools, started from the best pipeline.

Where wires do not bind, all nodes that end at a layer may feed all that start there, so that Helix's problem (ASPLOS
2025, section 4.2, without partial inference) is a flow over the positions between layers, with capacity placed on arcs:
    n_tab whole   nodes of kind t that hold the layers [a, b);   f_ab >= 0   flow over them;   F   flow from 0 to L
    max F
    sum_b f_xb - sum_a f_ax = F at x = 0, 0 at 0 < x < L
    f_ab <= sum_t n_tab t_t(b - a);   sum_ab n_tab <= n_t;   F <= the bound of `hexdsl.passes.pool.bounds`
    sum_ab f_ab <= S F, where the mean depth of the paths is limited to S
No node has a binary for its position, and no pair of nodes one for its edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hexdsl.passes.pool.bounds import flow_bound
from hexdsl.passes.pool.kinds import Holder, Kind, Line, table
from hexdsl.solve import (
    ConcreteModel,
    Constraint,
    Limits,
    NonNegativeIntegers,
    NonNegativeReals,
    Objective,
    Var,
    maximize,
    quicksum,
    solve,
)

LIMITS = Limits(max_nodes=20_000, rel_gap=1e-4, time_s=30.0)


@dataclass(frozen=True)
class Placement:
    """Who holds what, the flow that the programme found for it, and what no placement beats."""

    holders: tuple[Holder, ...]
    flow: float
    bound: float
    proven: bool


def improve(
    kinds: Sequence[Kind], layers: int, line: Line, depth: float | None = None, limits: Limits = LIMITS
) -> Placement:
    """The best placement that the limits allow to find, never worse than the line that it starts from."""
    bound = flow_bound(kinds, layers, depth)
    start = Placement(line.holders, line.flow, bound, line.flow >= bound * (1 - limits.rel_gap))
    if start.proven:
        return start
    model = _programme(kinds, layers, depth, bound)
    _start(model, line)
    solution = solve(model, limits, warm_start=True)
    top = bound if solution.bound is None else min(bound, solution.bound)
    if not solution.found or solution.objective is None or solution.objective <= line.flow * (1 + 1e-9):
        return Placement(line.holders, line.flow, top, line.flow >= top * (1 - limits.rel_gap))
    return Placement(_holders(kinds, model), solution.objective, top, solution.objective >= top * (1 - limits.rel_gap))


def _programme(kinds: Sequence[Kind], layers: int, depth: float | None, bound: float) -> ConcreteModel:
    rates = table(kinds, layers)
    arcs = [(a, a + n) for n in range(1, rates.shape[1] + 1) if rates[:, n - 1].any() for a in range(layers - n + 1)]
    able = {n: [t for t in range(len(kinds)) if rates[t, n - 1] > 0] for n in range(1, rates.shape[1] + 1)}
    model = ConcreteModel()
    places = [(t, a, b) for a, b in arcs for t in able[b - a]]
    model.n = Var(places, domain=NonNegativeIntegers, bounds=lambda m, t, a, b: (0, kinds[t].count))
    model.f = Var(arcs, domain=NonNegativeReals)
    model.flow = Var(bounds=(0, bound))
    leaving, coming = _ends(arcs, layers)
    model.kept = Constraint(
        range(layers),
        rule=lambda m, x: (
            quicksum(m.f[e] for e in leaving[x]) - quicksum(m.f[e] for e in coming[x]) == (0 if x else m.flow)
        ),
    )
    model.served = Constraint(
        arcs,
        rule=lambda m, a, b: m.f[a, b] <= quicksum(float(rates[t, b - a - 1]) * m.n[t, a, b] for t in able[b - a]),
    )
    model.counts = Constraint(
        range(len(kinds)), rule=lambda m, t: quicksum(m.n[p] for p in places if p[0] == t) <= kinds[t].count
    )
    if depth is not None:
        model.depth = Constraint(expr=quicksum(model.f[e] for e in arcs) <= depth * model.flow)
    model.goal = Objective(expr=model.flow, sense=maximize)
    return model


def _ends(arcs: Sequence[tuple[int, int]], layers: int) -> tuple[list[list[tuple[int, int]]], ...]:
    """The arcs that leave each position, and those that come to it."""
    leaving: list[list[tuple[int, int]]] = [[] for _ in range(layers + 1)]
    coming: list[list[tuple[int, int]]] = [[] for _ in range(layers + 1)]
    for arc in arcs:
        leaving[arc[0]].append(arc)
        coming[arc[1]].append(arc)
    return leaving, coming


def _start(model: ConcreteModel, line: Line) -> None:
    for variables in (model.n, model.f):
        for key in variables:
            variables[key].set_value(0)
    model.flow.set_value(line.flow)
    for stage in line.stages:
        model.f[stage.first, stage.end].set_value(line.flow)
        for t, count in enumerate(stage.nodes):
            if count:
                model.n[t, stage.first, stage.end].set_value(count)


def _holders(kinds: Sequence[Kind], model: ConcreteModel) -> tuple[Holder, ...]:
    used, found = [0] * len(kinds), list[Holder]()
    for (t, a, b), variable in sorted(model.n.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])):
        kind = kinds[t]
        for _ in range(round(variable.value or 0)):
            found.append(Holder(f"{kind.name}-{used[t]}", a, b, kind.rates[b - a - 1], kind.region))
            used[t] += 1
    return tuple(found)
