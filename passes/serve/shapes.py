"""Which forms a replica can have: pipelines of tensor-parallel groups on machines of some classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement
from typing import NamedTuple

from hexdsl.costs.gpu import Link
from hexdsl.passes.serve.problem import NodeClass, Problem

INNER = Link(16e9)
"""Between GPUs of a machine where nothing is said: half of PCIe 4 x16, which a transfer through the host reaches."""


class Slot(NamedTuple):
    """A stage without its layers: a class of machines, which of the replica's machines, and the degree."""

    cls: int
    machine: int
    tp: int


Signature = tuple[tuple[int, int], ...]
"""What a shape takes from the inventory: the class of each of its machines and how many GPUs there, sorted."""


@dataclass(frozen=True)
class Shape:
    """A pipeline: its stages in order.  A replica's machines are numbered; stages of one machine may lie apart."""

    slots: tuple[Slot, ...]

    @cached_property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Class and degree of each stage, in order."""
        return tuple((s.cls, s.tp) for s in self.slots)

    @cached_property
    def parts(self) -> dict[int, tuple[int, int]]:
        """The replica's machines: number to class and GPUs taken there."""
        found: dict[int, tuple[int, int]] = {}
        for slot in self.slots:
            found[slot.machine] = (slot.cls, found.get(slot.machine, (slot.cls, 0))[1] + slot.tp)
        return found

    @cached_property
    def signature(self) -> Signature:
        return tuple(sorted(self.parts.values()))

    @property
    def devices(self) -> int:
        return sum(s.tp for s in self.slots)

    def hops(self, problem: Problem) -> tuple[Link, ...] | None:
        """The links between neighbouring stages, None where two machines have no way to each other."""
        pairs = zip(self.slots, self.slots[1:], strict=False)
        found = tuple(hop_of(a, b, problem) for a, b in pairs)
        if None in found:
            return None
        ends = (problem.classes[s.cls].name for s in (self.slots[0], self.slots[-1]))
        return problem.network.with_return(found, *ends)  # type: ignore[return-value]


def hop_of(left: Slot, right: Slot, problem: Problem) -> Link | None:
    """The link from one stage to the next."""
    a, b = problem.classes[left.cls].name, problem.classes[right.cls].name
    return problem.network.inside[a] or INNER if left.machine == right.machine else problem.network.link(a, b)


def every_shape(problem: Problem) -> tuple[Shape, ...]:
    """All shapes that a best plan may need, fewest machines first.

    Every multiset of tensor-parallel groups on machines, in every order of the stages.  Orders with the same groups
    first and last (which hold the vocabulary) cost the same but for their links, so that of those only orders stay
    whose links are not all beaten: in total latency, in total time per byte, and in the slowest of them.
    """
    found: list[Shape] = []
    for machines in _multisets(problem):
        found += _orders(machines, problem)
    return tuple(found)


@dataclass(frozen=True, order=True)
class _Part:
    """Groups on one machine that are not yet in the pipeline."""

    cls: int
    degrees: tuple[int, ...]


def _multisets(problem: Problem) -> Iterator[tuple[_Part, ...]]:
    """Every choice of machines and of groups on each, by number of machines."""
    choices = [p for i, c in enumerate(problem.classes) for p in _parts(i, c)]
    layer: list[tuple[int, ...]] = [()]
    while layer:
        layer = [(*chosen, k) for chosen in layer for k in range(chosen[-1] if chosen else 0, len(choices))]
        layer = [c for c in layer if _allowed([choices[k] for k in c], problem)]
        yield from (tuple(choices[k] for k in c) for c in layer)


def _parts(index: int, cls: NodeClass) -> Iterator[_Part]:
    for count in range(1, cls.size + 1):
        for degrees in combinations_with_replacement(sorted(cls.degrees, reverse=True), count):
            if sum(degrees) <= cls.size:
                yield _Part(index, degrees)


def _allowed(parts: Sequence[_Part], problem: Problem) -> bool:
    if sum(len(p.degrees) for p in parts) > problem.arch.layers:
        return False
    used = [p.cls for p in parts]
    return all(used.count(c) <= problem.classes[c].count for c in set(used))


class _Links(NamedTuple):
    latency: float
    per_byte: float
    slowest: float


def _orders(parts: tuple[_Part, ...], problem: Problem) -> list[Shape]:
    """The orders of these groups that are not beaten, in the order in which they are found."""
    kept: dict[tuple[tuple[int, int], tuple[int, int]], list[tuple[_Links, Shape]]] = {}
    for slots, links in _arrange(_Walk(parts, (), _Links(0.0, 0.0, 0.0)), problem):
        ends = (slots[0].cls, slots[0].tp), (slots[-1].cls, slots[-1].tp)
        front = kept.setdefault(ends, [])
        if not any(_beats(other, links) for other, _ in front):
            front[:] = [pair for pair in front if not _beats(links, pair[0])]
            front.append((links, Shape(slots)))
    return [shape for front in kept.values() for _, shape in front]


def _beats(one: _Links, other: _Links) -> bool:
    return all(a <= b * (1 + 1e-12) for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class _Walk:
    """A pipeline under construction: what is left of each machine, and the stages so far with their links."""

    parts: tuple[_Part, ...]
    slots: tuple[Slot, ...]
    links: _Links


def _arrange(walk: _Walk, problem: Problem) -> Iterator[tuple[tuple[Slot, ...], _Links]]:
    """Every distinct order.  Untouched machines that are alike are interchangeable: only the first is tried."""
    if not any(p.degrees for p in walk.parts):
        yield walk.slots, walk.links
        return
    tried: set[tuple[object, ...]] = set()
    touched = {s.machine for s in walk.slots}
    for i, part in enumerate(walk.parts):
        for degree in dict.fromkeys(part.degrees):
            key = (part, degree, i if i in touched else -1)
            if key in tried:
                continue
            tried.add(key)
            wider = _extended(walk, i, degree, problem)
            if wider is not None:
                yield from _arrange(wider, problem)


def _extended(walk: _Walk, machine: int, degree: int, problem: Problem) -> _Walk | None:
    """The walk with one more stage, None where the last stage has no way there."""
    part = walk.parts[machine]
    slot, links = Slot(part.cls, machine, degree), walk.links
    if walk.slots:
        hop = hop_of(walk.slots[-1], slot, problem)
        if hop is None:
            return None
        links = _Links(
            links.latency + hop.latency_s, links.per_byte + 1 / hop.bandwidth, max(links.slowest, 1 / hop.bandwidth)
        )
    at = part.degrees.index(degree)
    rest = replace(part, degrees=part.degrees[:at] + part.degrees[at + 1 :])
    return _Walk((*walk.parts[:machine], rest, *walk.parts[machine + 1 :]), (*walk.slots, slot), links)
