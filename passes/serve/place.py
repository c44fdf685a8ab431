"""From counts to names: which machine and which GPUs hold each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hexdsl.ir.plan import Machine
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.shapes import Shape

Place = tuple[tuple[str, tuple[int, ...]], ...]
"""For each stage of a replica its machine and the GPUs there."""

Cuts = Sequence[Sequence[tuple[int, ...]]]
"""For each class how its machines are cut into parts."""


@dataclass(frozen=True)
class _Part:
    """A replica's need for GPUs of one of its machines, by number."""

    replica: int
    machine: int
    cls: int
    size: int


def place(
    chosen: Sequence[Shape], cuts: Cuts, machines: Sequence[Machine], problem: Problem
) -> tuple[Place, ...] | None:
    """The place of each replica, None where there is none with a replica's parts on different machines.

    Machines are cut as `cuts` says; on small inventories every other way is tried where that fails.
    """
    parts = [_Part(r, m, c, n) for r, shape in enumerate(chosen) for m, (c, n) in shape.parts.items()]
    groups = [[m for m in machines if m.group == cls.name] for cls in problem.classes]
    found = _by_cuts(parts, cuts, groups)
    if found is None and problem.small:
        found = _search(parts, groups, {m.id: len(m.devices) for m in machines}, ())
    return None if found is None else _located(chosen, parts, found)


def _by_cuts(parts: Sequence[_Part], cuts: Cuts, groups: Sequence[Sequence[Machine]]) -> tuple[Machine, ...] | None:
    """For each part the first machine of its class that has one of its size free and none of its replica's others."""
    pairs = [(m.id, list(c)) for group, cut in zip(groups, cuts, strict=True) for m, c in zip(group, cut, strict=False)]
    free = dict(pairs)
    holders: dict[tuple[int, str], None] = {}
    found: list[Machine] = []
    for part in parts:
        fits = (m for m in groups[part.cls] if part.size in free.get(m.id, ()) and (part.replica, m.id) not in holders)
        machine = next(fits, None)
        if machine is None:
            return None
        free[machine.id].remove(part.size)
        holders[part.replica, machine.id] = None
        found.append(machine)
    return tuple(found)


def _search(
    parts: Sequence[_Part], groups: Sequence[Sequence[Machine]], free: Mapping[str, int], found: tuple[Machine, ...]
) -> tuple[Machine, ...] | None:
    """Depth-first search for a machine for each part; of equal machines with as much room only the first is tried."""
    if len(found) == len(parts):
        return found
    part = parts[len(found)]
    taken = {m.id for p, m in zip(parts, found, strict=False) if p.replica == part.replica}
    tried: set[int] = set()
    for machine in groups[part.cls]:
        room = free[machine.id]
        if machine.id in taken or room < part.size or room in tried:
            continue
        tried.add(room)
        deeper = _search(parts, groups, {**free, machine.id: room - part.size}, (*found, machine))
        if deeper is not None:
            return deeper
    return None


def _located(chosen: Sequence[Shape], parts: Sequence[_Part], machines: Sequence[Machine]) -> tuple[Place, ...]:
    """GPUs of each machine in the order in which parts and stages come."""
    used: dict[str, int] = {}
    starts: dict[tuple[int, int], tuple[Machine, int]] = {}
    for part, machine in zip(parts, machines, strict=True):
        starts[part.replica, part.machine] = (machine, used.get(machine.id, 0))
        used[machine.id] = used.get(machine.id, 0) + part.size
    return tuple(_stages(r, shape, starts) for r, shape in enumerate(chosen))


def _stages(replica: int, shape: Shape, starts: dict[tuple[int, int], tuple[Machine, int]]) -> Place:
    found = []
    for slot in shape.slots:
        machine, start = starts[replica, slot.machine]
        found.append((machine.id, tuple(d.index for d in machine.devices[start : start + slot.tp])))
        starts[replica, slot.machine] = (machine, start + slot.tp)
    return tuple(found)
