"""Promising pipelines of a pool: which machines to join, for inventories in which hardly two machines are alike.

A pipeline of step time T takes from each class c machines that hold n_c(T) = min(room_c, T / seconds of a layer) layers
each and send a step's activations in time; enough of them hold the model.  For each T of a grid and each part of the
pool (a region, two of them, all), rows of machines are found by a covering knapsack over the layers,
    least w(l) = min_c { w_c + w(l - n_c(T)) },   w(0) = 0,   each class taken as often as it has machines,
first with one as every machine's weight (the fewest stages, as Parallax's first phase wants, arXiv 2509.26182, section
on model allocation), then with the share of its class that is left; each row is taken as often as it goes, and the rest
of the pool is cut up in the same way.  Rows over whole pools come from the arc flow of `hexdsl.passes.pool.arcs`, which
finds one wherever there is one.  Layers are split and priced by the planner's own cost model, which chooses among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from hexdsl.costs.network import transfer
from hexdsl.passes.pool.arcs import Room
from hexdsl.passes.pool.pipelines import Peer, plan_pipes, squared
from hexdsl.passes.serve.points import Pricer, stage_room
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.shapes import Shape, Slot

PACES = 6
"""Step times that are tried for each number of running requests."""

RUNNING = (1, 8, 32)
"""Numbers of running requests for which rows are found."""

MOST_ROWS = 600
MOST_CUTS = 24
"""Rows of machines in all, and those into which a part of the pool is cut at one step time."""

FEW = 256
"""Machines up to which pools are also cut up for the best k^2 / s."""

ORDERED = 4
"""Machines up to which every order of a row is tried."""

Row = tuple[int, ...]
"""The classes of a row of machines."""


@dataclass(frozen=True)
class Crowd:
    """The classes of a part of a pool as they are when so many requests run together."""

    pricer: Pricer
    members: tuple[int, ...]
    running: int

    @property
    def problem(self) -> Problem:
        return self.pricer.problem

    @cached_property
    def tokens(self) -> float:
        at = int(np.searchsorted(self.pricer.batches, self.running))
        return float(self.pricer.tokens[min(at, len(self.pricer.tokens) - 1)])

    @cached_property
    def rooms(self) -> Mapping[int, Room]:
        """Layers that fit on a machine of each class."""
        return {c: self._room(c) for c in self.members}

    def _room(self, c: int) -> Room:
        cls = self.problem.classes[c]
        parts = [stage_room(self.problem, cls, degree(self.problem, c), *ends) for ends in ENDS]
        held = [max(0, int(p.free / (p.layer + p.token * self.tokens) * (1 + 1e-12))) for p in parts]
        return Room(*(min(h, self.problem.arch.layers) for h in held))

    @cached_property
    def layer_s(self) -> Mapping[int, float]:
        """Seconds of a layer in a step of each class: its share of the prompts included."""
        return {c: self._layer_s(c) for c in self.members}

    def _layer_s(self, c: int) -> float:
        load, cost = self.problem.load, self.pricer.stage(c, degree(self.problem, c))
        prompts = self.running / self.problem.output
        return float(cost.decode(float(self.running), load.context).total + prompts * cost.prefill(load.prompt))  # type: ignore[operator]

    def sends_s(self, c: int) -> float:
        """Seconds in which a machine sends the activations of a step to one like it, at the least."""
        link = self.problem.network.link(self.problem.classes[c].name, self.problem.classes[c].name)
        if link is None:
            return 0.0
        tokens = self.running * (1 + self.problem.prompt / self.problem.output)
        return tokens * float(self.pricer.stage(c, degree(self.problem, c)).token_bytes) / link.bandwidth


ENDS = ((False, False), (True, False), (False, True), (True, True))


def degree(problem: Problem, c: int) -> int:
    """The GPUs of a machine of a class that share its layers."""
    return max(problem.classes[c].degrees, default=1)


def pool_shapes(problem: Problem, pricer: Pricer) -> Iterator[Shape]:
    """Pipelines over whole machines, each row of machines in its best order."""
    seen: dict[Row, None] = {}
    for row in _rows(problem, pricer):
        if len(seen) >= MOST_ROWS:
            return
        key = tuple(sorted(row))
        if key not in seen:
            seen[key] = None
            yield from _orders(row, pricer)


def _rows(problem: Problem, pricer: Pricer) -> Iterator[Row]:
    parts = list(_parts(problem))
    for part in parts[-1:] + parts[:-1]:
        crowd = Crowd(pricer, part, 1)
        yield from _piped(crowd)
    for running in RUNNING:
        for part in parts:
            yield from _cut(Crowd(pricer, part, running))


def _parts(problem: Problem) -> Iterator[tuple[int, ...]]:
    """The classes of each region, of every two regions, and all."""
    regions: dict[str, list[int]] = {}
    internet = problem.network.internet
    for c, cls in enumerate(problem.classes):
        end = None if internet is None else internet.ends.get(cls.name)
        if cls.degrees and end is not None:
            regions.setdefault(end.region, []).append(c)
    yield from (tuple(some) for some in regions.values())
    if len(regions) > 2:
        yield from (tuple(a + b) for a, b in combinations(regions.values(), 2))
    if len(regions) > 1:
        yield tuple(sorted(c for some in regions.values() for c in some))


def _piped(crowd: Crowd) -> Iterator[Row]:
    """The shortest pipeline, and of few machines those with the best k^2 / s."""
    classes, layers = crowd.problem.classes, crowd.problem.arch.layers
    count = sum(classes[c].count for c in crowd.members)
    peers = [
        Peer(f"{c}/{i}", crowd.rooms[c], 1 / crowd.layer_s[c])
        for c in crowd.members
        for i in range(min(classes[c].count, layers))
    ]
    scores = [lambda k, s: -k - s / 1e6, *([squared] if count <= FEW else [])]
    for score in scores:
        for pipe in plan_pipes(peers, layers, score).pipes:
            yield tuple(int(hold.peer.name.partition("/")[0]) for hold in pipe)


def _cut(crowd: Crowd) -> Iterator[Row]:
    """The crowd cut into rows, at each step time of the grid."""
    able = [c for c in crowd.members if crowd.rooms[c].middle]
    if not able:
        return
    longest = max(max(crowd.rooms[c].middle * crowd.layer_s[c], crowd.sends_s(c)) for c in able)
    shortest = min(crowd.layer_s[c] for c in able) * crowd.problem.arch.layers / 16
    for pace in np.geomspace(max(longest, shortest), min(longest, shortest), PACES).tolist():
        held = {c: _held(crowd, c, pace) for c in able}
        held = {c: n for c, n in held.items() if n}
        for even in (True, False):
            yield from _cut_up(crowd, held, even)


def _held(crowd: Crowd, c: int, pace: float) -> int:
    """Layers that a machine does within a step time; none where it cannot send in time."""
    if crowd.sends_s(c) > pace * (1 + 1e-9):
        return 0
    return min(crowd.rooms[c].middle, int(pace / crowd.layer_s[c] + 1e-9))


def _cut_up(crowd: Crowd, held: Mapping[int, int], even: bool) -> Iterator[Row]:
    left = {c: crowd.problem.classes[c].count for c in held}
    for _ in range(MOST_CUTS):
        weights = {c: 1.0 if even else held[c] * (1.0 + 1.0 / max(1, left[c])) for c in held}
        row = _lightest(held, left, weights, crowd.problem.arch.layers + _displaced(crowd, held))
        if row is None:
            return
        yield row
        times = min(left[c] // row.count(c) for c in set(row))
        for c in row:
            left[c] -= times


def _displaced(crowd: Crowd, held: Mapping[int, int]) -> int:
    """Layers whose room the embedding and the output head take at the least."""
    rooms = [crowd.rooms[c] for c in held]
    return min((r.middle - r.first for r in rooms), default=0) + min((r.middle - r.last for r in rooms), default=0)


def _lightest(
    held: Mapping[int, int], left: Mapping[int, int], weights: Mapping[int, float], layers: int
) -> Row | None:
    """The lightest multiset of machines that hold the layers together; None where there are too few."""
    best = np.full(layers + 1, np.inf)
    best[0] = 0.0
    steps: list[tuple[int, NDArray[np.bool_]]] = []
    for c, n in held.items():
        for _ in range(min(left[c], -(-layers // n))):
            before = np.concatenate([np.zeros(min(n, layers + 1)), best[: max(0, layers + 1 - n)]])
            shifted = before + weights[c]
            taken = shifted < best - 1e-12
            taken[0] = False
            if not taken.any():
                break
            best = np.where(taken, shifted, best)
            steps.append((c, taken))
    if not np.isfinite(best[layers]):
        return None
    row, at = list[int](), layers
    for c, taken in reversed(steps):
        if at > 0 and taken[at]:
            row.append(c)
            at = max(0, at - held[c])
    return tuple(row)


def _orders(row: Row, pricer: Pricer) -> Iterator[Shape]:
    """The quickest order of a row of few machines for each pair of ends; of many the order from each first machine."""
    problem = pricer.problem
    many = len(row) > ORDERED
    orders = [_from(start, row, problem) for start in sorted(set(row))] if many else sorted(set(permutations(row)))
    best: dict[tuple[int, int], tuple[float, Shape]] = {}
    for order in orders:
        seconds, shape = _seconds(order, problem), _shape(order, problem)
        ends = (order[0], order[-1])
        if seconds < best.get(ends, (np.inf,))[0] * (1 - 1e-9) and pricer.holds(shape):
            best[ends] = (seconds, shape)
    yield from (shape for _, shape in best.values())


def _from(start: int, row: Row, problem: Problem) -> Row:
    """From one machine always on to the nearest that is left."""
    found, rest = [start], list(row)
    rest.remove(start)
    while rest:
        nearest = min(rest, key=lambda c: (_hop_s(found[-1], c, problem), c))
        rest.remove(nearest)
        found.append(nearest)
    return tuple(found)


def _seconds(order: Row, problem: Problem) -> float:
    """Seconds that a token spends between the machines, the way back included."""
    if len(order) == 1:
        return 0.0
    return sum(_hop_s(a, b, problem) for a, b in zip(order, (*order[1:], order[0]), strict=True))


def _hop_s(a: int, b: int, problem: Problem) -> float:
    link = problem.network.link(problem.classes[a].name, problem.classes[b].name)
    return float("inf") if link is None else float(transfer(link, problem.arch.hidden * 2.0))


def _shape(order: Row, problem: Problem) -> Shape:
    return Shape(tuple(Slot(c, i, degree(problem, c)) for i, c in enumerate(order)))
