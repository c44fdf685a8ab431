"""Which forms a replica can have: pipelines of tensor-parallel groups on machines of some classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, islice, permutations

from hexdsl.costs.gpu import Link
from hexdsl.costs.network import transfer
from hexdsl.passes.serve.problem import NodeClass, Problem

MOST_STAGES = 8
"""Longest pipeline that is enumerated on large inventories."""

MOST_SHAPES = 1500
"""Candidates on large inventories: enough to hold every shape of up to two machines of four classes."""

ORDERED = 6
"""Up to so many machines the best order of a pipeline is found by trying every order."""


@dataclass(frozen=True, order=True)
class Segment:
    """The part of a replica on one machine: a class, by index, and the degrees of its consecutive stages."""

    cls: int
    degrees: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.degrees)


@dataclass(frozen=True)
class Shape:
    """A pipeline: segments in order."""

    segments: tuple[Segment, ...]

    @cached_property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Class and degree of each stage, in order."""
        return tuple((s.cls, t) for s in self.segments for t in s.degrees)

    @property
    def devices(self) -> int:
        return sum(s.size for s in self.segments)

    def hops(self, problem: Problem) -> tuple[Link, ...] | None:
        """The links between neighbouring stages, None where two machines have no way to each other."""
        found: list[Link] = []
        for i, segment in enumerate(self.segments):
            name = problem.classes[segment.cls].name
            if i:
                before = problem.classes[self.segments[i - 1].cls].name
                link = problem.network.link(before, name)
                if link is None:
                    return None
                found.append(link)
            inner = problem.network.inside[name] or INNER
            found += [inner] * (len(segment.degrees) - 1)
        return tuple(found)


INNER = Link(16e9)
"""Between GPUs of a machine where nothing is said: half of PCIe 4 x16, which a transfer through the host reaches."""


def shapes(problem: Problem) -> tuple[tuple[Shape, ...], bool]:
    """Candidate shapes, smallest first, and whether they are all that there are.

    On small inventories: every multiset of segments, with unlike degrees inside a machine.  On large ones: stages of
    equal degree on a machine, pipelines of at most `MOST_STAGES` stages, at most `MOST_SHAPES` candidates.
    Machines of one pipeline stand in the order that moves its activations in the least time.
    """
    most = min(problem.arch.layers, problem.devices if problem.small else MOST_STAGES)
    segments = [s for i, c in enumerate(problem.classes) for s in _segments(i, c, problem.small, most)]
    found = (_ordered(chosen, problem) for chosen in _multisets(segments, problem, most))
    made = [s for s in found if s is not None]
    if problem.small:
        return tuple(made), True
    cut = list(islice(made, MOST_SHAPES))
    return tuple(cut), False


def _segments(index: int, cls: NodeClass, mixed: bool, most: int) -> Iterator[Segment]:
    for count in range(1, min(cls.size, most) + 1):
        for degrees in combinations_with_replacement(sorted(cls.degrees, reverse=True), count):
            if sum(degrees) <= cls.size and (mixed or len(set(degrees)) == 1):
                yield Segment(index, degrees)


def _multisets(segments: list[Segment], problem: Problem, most: int) -> Iterator[tuple[Segment, ...]]:
    """Multisets of segments within the machines that there are, by number of machines, bounded on large inventories."""
    limit = problem.devices if problem.small else MOST_SHAPES
    layer: list[tuple[int, ...]] = [()]
    given = 0
    while layer and given < MOST_SHAPES * 50:
        wider: list[tuple[int, ...]] = []
        for chosen in layer:
            for k in range(chosen[-1] if chosen else 0, len(segments)):
                grown = (*chosen, k)
                if _allowed([segments[i] for i in grown], problem, most):
                    wider.append(grown)
        for grown in wider:
            given += 1
            yield tuple(segments[i] for i in grown)
        layer = wider if problem.small or given < limit else []


def _allowed(chosen: list[Segment], problem: Problem, most: int) -> bool:
    if sum(len(s.degrees) for s in chosen) > most:
        return False
    used = {s.cls: sum(1 for o in chosen if o.cls == s.cls) for s in chosen}
    return all(n <= problem.classes[i].count for i, n in used.items())


def _ordered(chosen: tuple[Segment, ...], problem: Problem) -> Shape | None:
    """The order of the machines with the quickest hops; ties go to the first in lexicographic order."""
    orders = sorted(set(permutations(chosen))) if len(chosen) <= ORDERED else [tuple(sorted(chosen))]
    best: tuple[float, Shape] | None = None
    for order in orders:
        shape = Shape(order)
        hops = shape.hops(problem)
        if hops is None:
            continue
        size = problem.arch.hidden * 2.0
        seconds = sum(float(transfer(h, size)) for h in hops)
        if best is None or seconds < best[0] * (1 - 1e-9):
            best = (seconds, shape)
    return best[1] if best else None
