"""Pipelines as a whole flow over covered layers.

Arc flow (Valerio de Carvalho, Annals of Operations Research 86, 1999):

    x_ra whole    nodes with room r that begin at layer a of some pipeline;   k   pipelines
    an arc goes from a to a + room; from 0 with the first node's room, into L only with the last one's, else up to L - 1
    k units leave 0 and come to L, none are lost between;   sum_a x_ra <= n_r
The most pipelines are max k, the fewest nodes of k pipelines min sum x.  Each unit of a whole flow is a pipeline, and
each set of pipelines a flow, so that nothing is lost.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hexdsl.solve import (
    ConcreteModel,
    Constraint,
    Limits,
    NonNegativeIntegers,
    Objective,
    Solution,
    Var,
    maximize,
    minimize,
    quicksum,
    solve,
)

LIMITS = Limits(max_nodes=5_000, time_s=20.0)


@dataclass(frozen=True, slots=True)
class Room:
    """Layers that fit on a node, by its place in the pipeline."""

    middle: int
    first: int
    last: int
    both: int

    def __post_init__(self) -> None:
        if not self.middle >= max(self.first, self.last) >= min(self.first, self.last) >= self.both:
            raise ValueError("a node has no more room where it also holds the embedding or the head")

    def at(self, first: bool, last: bool) -> int:
        return (self.middle, self.last, self.first, self.both)[2 * first + last]


class Arc(NamedTuple):
    """A node with this room in a pipeline, from layer `first` up to `end`."""

    room: Room
    first: int
    end: int


class ArcFlow:
    """The programme for some nodes, counted by room, and a model of so many layers."""

    def __init__(self, rooms: Counter[Room], layers: int) -> None:
        self.rooms, self.layers = rooms, layers
        ordered = sorted(rooms, key=lambda r: (-r.middle, -r.first, -r.last, -r.both))
        self.arcs = _reachable([arc for room in ordered for arc in _arcs(room, layers)], layers)
        self._model = self._programme() if self.arcs else None

    def most(self) -> int:
        """The most pipelines; where the solver stops early, a bound on them."""
        if self._model is None:
            return 0
        solution = self._solved(self._model.pipelines)
        most = solution.bound if solution.bound is not None else sum(self.rooms.values())
        return math.floor(most + 1e-6)

    def fewest(self, k: int) -> tuple[list[tuple[Room, ...]], int | None]:
        """k pipelines with the fewest nodes, each as its rooms from first to last, and how few nodes there can be.

        No pipelines and None where it is certain that there are none.
        """
        if self._model is None:
            return [], None
        self._model.k.fix(k)
        solution = self._solved(self._model.nodes)
        self._model.k.unfix()
        if solution.status == "infeasible":
            return [], None
        low = 0 if solution.bound is None else math.ceil(solution.bound - 1e-6)
        return (self._paths(k) if solution.found else []), low

    def _solved(self, goal: Any) -> Solution:
        """Solved to a gap below one: both goals are whole numbers, and at most the number of nodes."""
        goal.activate()
        try:
            return solve(self._model, replace(LIMITS, rel_gap=0.99 / max(1, self.rooms.total())))
        finally:
            goal.deactivate()

    def _programme(self) -> ConcreteModel:
        model, arcs, rooms = ConcreteModel(), self.arcs, self.rooms
        leaving, coming, members = _incidence(arcs)
        model.x = Var(range(len(arcs)), domain=NonNegativeIntegers, bounds=lambda m, i: (0, rooms[arcs[i].room]))
        model.k = Var(domain=NonNegativeIntegers)
        model.kept = Constraint(
            sorted({*leaving, *coming} - {self.layers}),
            rule=lambda m, a: _sum(m, leaving.get(a, ())) - _sum(m, coming.get(a, ())) == (0 if a else m.k),
        )
        model.counts = Constraint(
            range(len(members)), rule=lambda m, t: _sum(m, members[t]) <= rooms[arcs[members[t][0]].room]
        )
        model.pipelines = Objective(expr=model.k, sense=maximize)
        model.nodes = Objective(expr=_sum(model, range(len(arcs))), sense=minimize)
        model.pipelines.deactivate()
        model.nodes.deactivate()
        return model

    def _paths(self, k: int) -> list[tuple[Room, ...]]:
        """The flow that is loaded, as k paths."""
        assert self._model is not None
        left: dict[int, list[Arc]] = {}
        for i, arc in enumerate(self.arcs):
            left.setdefault(arc.first, []).extend([arc] * round(self._model.x[i].value))
        paths = []
        for _ in range(k):
            at, rooms = 0, list[Room]()
            while at < self.layers:
                room, _, at = left[at].pop()
                rooms.append(room)
            paths.append(tuple(rooms))
        return paths


def _sum(model: ConcreteModel, members: Sequence[int]) -> Any:
    return quicksum(model.x[i] for i in members)


def _arcs(room: Room, layers: int) -> list[Arc]:
    """Where a node may begin, and up to where it reaches there."""
    spans = [(0, layers)] if room.both >= layers else []
    if room.first:
        spans.append((0, min(room.first, layers - 1)))
    for a in range(1, layers):
        spans.append((a, min(a + room.middle, layers - 1)))
        if a + room.last >= layers:
            spans.append((a, layers))
    return [Arc(room, a, b) for a, b in spans if a < b]


def _reachable(arcs: Sequence[Arc], layers: int) -> list[Arc]:
    """The arcs on some path from 0 to L."""
    after, before = {0}, {layers}
    for arc in sorted(arcs, key=lambda arc: arc.first):
        if arc.first in after:
            after.add(arc.end)
    for arc in sorted(arcs, key=lambda arc: -arc.end):
        if arc.end in before:
            before.add(arc.first)
    return [arc for arc in arcs if arc.first in after and arc.end in before]


def _incidence(arcs: Sequence[Arc]) -> tuple[dict[int, list[int]], dict[int, list[int]], list[list[int]]]:
    """Arcs by where they begin, by where they end, and by room."""
    leaving: dict[int, list[int]] = {}
    coming: dict[int, list[int]] = {}
    members: dict[Room, list[int]] = {}
    for i, arc in enumerate(arcs):
        leaving.setdefault(arc.first, []).append(i)
        coming.setdefault(arc.end, []).append(i)
        members.setdefault(arc.room, []).append(i)
    return leaving, coming, list(members.values())
