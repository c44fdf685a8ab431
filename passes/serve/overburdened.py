"""Whether the links between phases carry what a solution hands over that heeded only some of them."""

from __future__ import annotations

from hexdsl.passes.serve.between import Pair
from hexdsl.passes.serve.choose import Programme, programme
from hexdsl.passes.serve.handover import place_of
from hexdsl.solve import Objective, maximize, quicksum, solve

ENOUGH = 1 - 1e-5
"""Share of the handovers that must find room: the rest is the solver's tolerance."""


def overburdened(made: Programme) -> frozenset[Pair]:
    """The pairs of places in use, where their links carry less than the solution hands over; else none.

    The most that they carry is a linear programme over the chosen replicas alone, with all of their links.
    """
    if not hasattr(made.model, "handed"):
        return frozenset()
    counts = [round(made.model.x[i].value) for i in made.model.x]
    chosen = [(c, n) for c, n in zip(made.candidates, counts, strict=True) if n and c.role != "both"]
    halves = [{place_of(c.shape) for c, _ in chosen if c.role == role} for role in ("prefill", "decode")]
    if not all(halves):
        return frozenset()
    true = programme(made.problem, [c for c, _ in chosen], serve_all=False)
    for i, (_, count) in enumerate(chosen):
        true.model.x[i].fix(count)
    true.model.goal = Objective(expr=quicksum(true.model.handed.values()), sense=maximize)
    carried = (solve(true.model).objective or 0.0) * true.unit
    wanted = sum(float(v.value or 0.0) for v in made.model.handed.values()) * made.unit
    if carried >= wanted * ENOUGH:
        return frozenset()
    return frozenset((a, b) for a in halves[0] for b in halves[1])
