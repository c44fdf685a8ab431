"""The most promising shapes of replica on large inventories, where not all can be tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, islice, permutations, product

from hexdsl.costs.memory import budget_bytes
from hexdsl.costs.network import transfer
from hexdsl.passes.pool.shapes import pool_shapes
from hexdsl.passes.serve.points import Pricer
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.shapes import Shape, Slot, every_shape

MOST_SHAPES = 400
"""Shapes of each family that are priced."""

TRIED = 10
"""Shapes that are looked at for each that is priced: many do not hold the model."""

MOST_STAGES = 16
"""Longest pipeline, unless the model needs a longer one."""

ORDERED = 4
"""Up to so many machines every order of a pipeline is tried."""

ALL_SIZES = 16
"""Machines with more GPUs than this are cut into powers of two only."""


@dataclass(frozen=True)
class _Segment:
    """Consecutive stages of one degree on one machine of a class."""

    cls: int
    tp: int
    stages: int

    @property
    def size(self) -> int:
        return self.tp * self.stages


def promising_shapes(problem: Problem, pricer: Pricer) -> tuple[Shape, ...]:
    """Shapes by family, each family bounded by itself so that none crowds out another.

    Of each class every shape that would be looked at if it were alone, so that more machines never make a plan worse:
    all shapes of a class with few GPUs; of others the parts of one machine, and chains of equal machines.  Two and
    three machines of different classes; and for models that are too large for those, chains over as many machines as
    it takes; over peers, the rows of `hexdsl.passes.pool.shapes`.  Two machines of one class in a pipeline are taken by
    more than half each, so that two of its parts never meet on one machine.
    """
    segments = [_segments(problem, c) for c in range(len(problem.classes))]
    whole = [_whole(problem, c, s) for c, s in enumerate(segments)]
    families: list[Iterable[tuple[_Segment, ...]]] = []
    found: dict[Shape, None] = {}
    for c, cls in enumerate(problem.classes):
        alone = replace(problem, classes=(cls,))
        if alone.small:
            found.update(dict.fromkeys(s for s in map(partial(_as_class, c), every_shape(alone)) if pricer.holds(s)))
        families += [((s,) for s in segments[c]), _chains(problem, pricer, c, whole[c])]
    families += [_mixed(segments, 2), _mixed(whole, 3), _long(problem, pricer, whole)]
    for family in families:
        looked = islice(family, MOST_SHAPES * TRIED)
        shapes = (shape for chosen in looked for shape in _ordered(chosen, problem) if pricer.holds(shape))
        found.update(dict.fromkeys(islice(shapes, MOST_SHAPES)))
    if problem.network.internet is not None:
        found.update(dict.fromkeys(pool_shapes(problem, pricer)))
    return tuple(found)


def _segments(problem: Problem, index: int) -> tuple[_Segment, ...]:
    """Ways to use a machine or a part of it, the largest first, and of one size the fewest stages first."""
    cls = problem.classes[index]
    most = min(MOST_STAGES, problem.arch.layers)
    found = [_Segment(index, tp, n) for tp in cls.degrees for n in range(1, min(most, cls.size // tp) + 1)]
    plain = [s for s in found if cls.size <= ALL_SIZES or s.size.bit_count() == 1 or s.size == cls.size]
    return tuple(sorted(plain, key=lambda s: (-s.size, s.stages)))


def _whole(problem: Problem, index: int, segments: Sequence[_Segment]) -> tuple[_Segment, ...]:
    """The segments that take more than half of a machine."""
    return tuple(s for s in segments if 2 * s.size > problem.classes[index].size)


def _as_class(cls: int, shape: Shape) -> Shape:
    """A shape of a problem with one class, as one of this class."""
    return Shape(tuple(slot._replace(cls=cls) for slot in shape.slots))


def _chains(problem: Problem, pricer: Pricer, cls: int, segments: Sequence[_Segment]) -> Iterator[tuple[_Segment, ...]]:
    """Equal machines in a row: the fewest that hold the model, and up to twice as many."""
    for segment in segments:
        longest = min(problem.classes[cls].count, problem.arch.layers // segment.stages)
        holding = [n for n in range(2, longest + 1) if pricer.holds(_shape((segment,) * n))]
        yield from ((segment,) * n for n in holding[: max([3, *holding[:1]])])


def _mixed(segments: Sequence[Sequence[_Segment]], width: int) -> Iterator[tuple[_Segment, ...]]:
    """Segments of different classes, those first that stand first in their class."""
    depth = max((len(s) for s in segments), default=0)
    ranks = sorted(product(range(depth), repeat=width), key=lambda r: (sum(r), r)) if depth**width < 20_000 else ()
    for rank in ranks:
        for classes in combinations(range(len(segments)), width):
            if all(r < len(segments[c]) for r, c in zip(rank, classes, strict=True)):
                yield tuple(segments[c][r] for r, c in zip(rank, classes, strict=True))


def _long(problem: Problem, pricer: Pricer, whole: Sequence[Sequence[_Segment]]) -> Iterator[tuple[_Segment, ...]]:
    """From each class outwards: its machines, then those of the class that is nearest by its links, until it holds."""
    for start in range(len(problem.classes)):
        chosen: list[_Segment] = []
        for index in _outwards(problem, start):
            cls = problem.classes[index]
            for _ in range(cls.count if whole[index] else 0):
                chosen.append(whole[index][0])
                if sum(s.stages for s in chosen) > problem.arch.layers:
                    break
                if len(chosen) > 1 and pricer.holds(_shape(chosen)):
                    yield tuple(chosen)
                    break


def _outwards(problem: Problem, start: int) -> list[int]:
    """The classes that can be reached from one, by the time that a token's activations take, then by memory."""
    name, size = problem.classes[start].name, problem.arch.hidden * 2.0

    def key(index: int) -> tuple[float, float, int]:
        cls = problem.classes[index]
        link = problem.network.link(name, cls.name)
        seconds = -1.0 if index == start else float("inf") if link is None else float(transfer(link, size))
        return seconds, -budget_bytes(cls.gpu, 1, problem.engine), index

    return [i for i in sorted(range(len(problem.classes)), key=key) if key(i)[0] < float("inf")]


def _ordered(chosen: Sequence[_Segment], problem: Problem) -> Iterator[Shape]:
    """Of few machines the quickest order for each pair of ends (which hold the vocabulary); of many the order given."""
    if len(chosen) > ORDERED or len(set(chosen)) == 1:
        shape = _shape(chosen)
        yield from [shape] if shape.hops(problem) is not None else []
        return
    best: dict[tuple[object, object], tuple[float, Shape]] = {}
    for order in sorted(set(permutations(chosen)), key=lambda o: [(s.cls, s.tp, s.stages) for s in o]):
        shape = _shape(order)
        hops = shape.hops(problem)
        if hops is None:
            continue
        seconds = sum(float(transfer(h, problem.arch.hidden * 2.0)) for h in hops)
        ends = (order[0], order[-1])
        if ends not in best or seconds < best[ends][0] * (1 - 1e-9):
            best[ends] = (seconds, shape)
    yield from (shape for _, shape in best.values())


def _shape(segments: Sequence[_Segment]) -> Shape:
    return Shape(tuple(Slot(s.cls, i, s.tp) for i, s in enumerate(segments) for _ in range(s.stages)))
