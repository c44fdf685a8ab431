"""Pipelines of a pool by what they serve: tokens/s under a limit on the time per token, round trips counted.

Columns q: a set of nodes by class (kind x region) that holds the model, its layers by water-filling, in the order of
regions with the shortest tour.  With b sequences in a micro-batch, m micro-batches under way, and stages of
    t_i = n_i tau_i   seconds,   path = sum_i t_i + the tour's latencies (the token goes back to the first stage),
a token takes max(path, m max_i t_i) seconds and the pipeline serves r_q = m b / that; m is the largest that the limit
and the memory allow, and no larger than fills the pipeline.  Columns that cannot meet the limit are not made.
    max sum_q r_q y_q   s.t.  sum_q p_qc y_q <= n_c for each class c,  y whole
This replaces Parallax's k^2 / s (arXiv 2509.26182), which knows neither speed nor distance.  The bound is that of the
programme over the columns; `complete` says whether sets of every size up to `widest` were made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice, pairwise, permutations

from hexdsl.costs.arch import Arch, embedding_params, kv_values, layer_params
from hexdsl.costs.gpu import Formats, Gpu
from hexdsl.costs.memory import DEFAULT_ENGINE, Engine, budget_bytes
from hexdsl.costs.serving import Load
from hexdsl.costs.stage import stage_cost
from hexdsl.passes.pool.arcs import Room
from hexdsl.passes.pool.fill import fill
from hexdsl.passes.pool.pipelines import room_of
from hexdsl.solve import (
    ConcreteModel,
    Constraint,
    Limits,
    NonNegativeIntegers,
    Objective,
    Var,
    maximize,
    quicksum,
    solve,
)

MOST_COLUMNS = 20_000
MOST_REGIONS = 3
"""In one pipeline: so many regions lie on a ring in which every two are neighbours, so that any two may be its ends."""

LIMITS = Limits(max_nodes=2_000, rel_gap=1e-4, time_s=20.0)


@dataclass(frozen=True, slots=True)
class Class:
    """Equal nodes of a region: seconds of a layer in a step, and of the output head where a node is the last."""

    name: str
    count: int
    room: Room
    layer_s: float
    head_s: float = 0.0
    region: str = ""


@dataclass(frozen=True)
class Service:
    """What is served: layers, sequences in a micro-batch, most micro-batches, seconds a token may take, latencies.

    `delay` holds seconds one way between regions (in either order) and, under a region twice, within it.
    """

    layers: int
    batch: int
    lanes: int
    limit_s: float = math.inf
    delay: Mapping[tuple[str, str], float] | None = None

    def hop(self, a: str, b: str) -> float:
        delays = self.delay or {}
        return delays.get((a, b), delays.get((b, a), 0.0))


@dataclass(frozen=True, slots=True)
class Column:
    """A pipeline: classes from first to last with their layers; tokens/s, and seconds per token."""

    classes: tuple[int, ...]
    layers: tuple[int, ...]
    lanes: int
    tokens_s: float
    token_s: float


@dataclass(frozen=True)
class Served:
    """The pipelines that are built, one entry for each, what they serve, and what none over these columns beats."""

    columns: tuple[Column, ...]
    tokens_s: float
    bound: float
    complete: bool


def plan_rates(classes: Sequence[Class], service: Service, widest: int) -> Served:
    """The pipelines of at most `widest` nodes that serve the most tokens/s within the limit."""
    sets, complete = _sets(classes, service.layers, widest)
    columns = [c for some in sets if (c := column_of(classes, some, service)) is not None]
    if not columns:
        return Served((), 0.0, 0.0, complete)
    model = ConcreteModel()
    model.y = Var(range(len(columns)), domain=NonNegativeIntegers)
    model.counts = Constraint(
        sorted({c for q in columns for c in q.classes}),
        rule=lambda m, c: (
            quicksum(q.classes.count(c) * m.y[i] for i, q in enumerate(columns) if c in q.classes) <= classes[c].count
        ),
    )
    model.goal = Objective(expr=quicksum(q.tokens_s * model.y[i] for i, q in enumerate(columns)), sense=maximize)
    solution = solve(model, LIMITS)
    chosen = [q for i, q in enumerate(columns) for _ in range(round(model.y[i].value or 0))]
    total = sum(q.tokens_s for q in chosen)
    return Served(tuple(chosen), total, max(total, solution.bound or 0.0), complete)


def _sets(classes: Sequence[Class], layers: int, widest: int) -> tuple[list[tuple[int, ...]], bool]:
    """Sets of nodes that have room for the model, of all sizes up to the widest that number few enough."""
    able = [c for c, cls in enumerate(classes) if cls.count and cls.room.middle]
    found: list[tuple[int, ...]] = []
    for size in range(1, widest + 1):
        more = list(islice(_of_size(classes, able, layers, size), MOST_COLUMNS + 1 - len(found)))
        if len(found) + len(more) > MOST_COLUMNS:
            return found, False
        found += more
    return found, True


def _of_size(classes: Sequence[Class], able: Sequence[int], layers: int, size: int) -> Iterator[tuple[int, ...]]:
    for some in combinations_with_replacement(able, size):
        enough = sum(classes[c].room.middle for c in some) >= layers >= size
        if enough and all(some.count(c) <= classes[c].count for c in set(some)):
            yield some


def column_of(classes: Sequence[Class], some: Sequence[int], service: Service) -> Column | None:
    """The pipeline of a set of nodes; None where it has no room or cannot meet the limit."""
    regions = sorted({classes[c].region for c in some})
    row = _row(classes, some) if len(regions) <= MOST_REGIONS else None
    if row is None:
        return None
    rooms = [classes[c].room.at(i == 0, i == len(row) - 1) for i, c in enumerate(row)]
    if min(rooms) < 1 or not len(row) <= service.layers <= sum(rooms):
        return None
    hops = _tour(regions, service) + sum(_inside(classes, row, r, service) for r in regions)
    splits = {fill(service.layers, rooms, [1 / classes[c].layer_s for c in row]), _greedy(classes, row, rooms, service)}
    made = [_priced(classes, row, split, hops, service) for split in sorted(splits)]
    return max((c for c in made if c is not None), key=lambda c: (c.tokens_s, -c.token_s), default=None)


def _row(classes: Sequence[Class], some: Sequence[int]) -> tuple[int, ...] | None:
    """An order in which the ends cost the least room: the embedding and the head lie where they displace least."""
    if len(some) == 1:
        return tuple(some)
    pairs = ((a, b) for a in range(len(some)) for b in range(len(some)) if a != b)
    usable = [(a, b) for a, b in pairs if classes[some[a]].room.first and classes[some[b]].room.last]
    if not usable:
        return None

    def lost(pair: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        first, last = (classes[some[i]].room for i in pair)
        return first.middle - first.first + last.middle - last.last, pair

    a, b = min(usable, key=lost)
    return (some[a], *(c for i, c in enumerate(some) if i not in (a, b)), some[b])


def _tour(regions: Sequence[str], service: Service) -> float:
    """The shortest round through the regions."""
    if len(regions) < 2:
        return 0.0
    rounds = ((regions[0], *rest, regions[0]) for rest in permutations(regions[1:]))
    return min(sum(service.hop(a, b) for a, b in pairwise(r)) for r in rounds)


def _inside(classes: Sequence[Class], row: Sequence[int], region: str, service: Service) -> float:
    """The hops of the round that stay in a region; where all nodes do, the way back is one of them."""
    members = sum(classes[c].region == region for c in row)
    steps = members if members == len(row) > 1 else members - 1
    return steps * service.hop(region, region)


def _greedy(classes: Sequence[Class], row: Sequence[int], rooms: Sequence[int], service: Service) -> tuple[int, ...]:
    """The split with the shortest path: one layer each, the rest on the fastest."""
    split, left = [1] * len(row), service.layers - len(row)
    for i in sorted(range(len(row)), key=lambda i: classes[row[i]].layer_s):
        more = min(left, rooms[i] - 1)
        split[i], left = split[i] + more, left - more
    return tuple(split)


def _priced(
    classes: Sequence[Class], row: tuple[int, ...], split: tuple[int, ...], hops: float, service: Service
) -> Column | None:
    times = [classes[c].layer_s * n for c, n in zip(row, split, strict=True)]
    times[-1] += classes[row[-1]].head_s
    path, busiest = sum(times) + hops, max(times)
    if path > service.limit_s:
        return None
    lanes = min(service.lanes, math.ceil(path / busiest - 1e-9), math.floor(min(1e9, service.limit_s / busiest)))
    token_s = max(path, lanes * busiest)
    return Column(row, split, lanes, lanes * service.batch / token_s, token_s)


def class_of(
    name: str,
    count: int,
    gpu: Gpu,
    arch: Arch,
    load: Load,
    batch: int,
    lanes: int,
    formats: Formats | None = None,
    region: str = "",
    engine: Engine = DEFAULT_ENGINE,
) -> Class:  # fmt: skip
    """A class of single-GPU nodes by hexc's cost model: each decode step brings its share of prompts.

    Memory is shared by the weights of a layer and the KV cache of all sequences under way.
    """
    formats = formats or Formats()
    cost = stage_cost((gpu,), None, arch, formats)
    step = cost.decode(float(batch), load.context).total + batch / load.output * cost.prefill(load.prompt)  # type: ignore[operator]
    tokens = float(load.prompt) + float(load.output)  # type: ignore[arg-type]
    kv = batch * lanes * tokens * kv_values(arch) * formats.kv_bytes
    layer = float(layer_params(arch).max()) * formats.weight_bytes + kv
    table = embedding_params(arch) * formats.wide_bytes
    room = room_of(max(0.0, budget_bytes(gpu, 1, engine)), layer, table, table)
    return Class(name, count, room, float(step), float(cost.head(float(batch)).total), region)
