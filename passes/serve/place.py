"""From counts to names: which machine and which GPUs hold each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hexdsl.ir.plan import Machine
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.shapes import Shape


@dataclass
class Free:
    """The free GPUs of each machine of a class, by position."""

    machines: tuple[Machine, ...]
    parts: list[list[int]]
    left: dict[str, list[int]] = field(default_factory=dict)

    def take(self, size: int, avoid: frozenset[str]) -> tuple[str, tuple[int, ...]] | None:
        """GPUs for a segment on the first machine with a part of this size that is not avoided."""
        for machine, parts in zip(self.machines, self.parts, strict=True):
            if size in parts and machine.id not in avoid:
                parts.remove(size)
                free = self.left.setdefault(machine.id, [d.index for d in machine.devices])
                taken, self.left[machine.id] = free[:size], free[size:]
                return machine.id, tuple(taken)
        return None


def place(
    chosen: Sequence[Shape], cuts: Sequence[Sequence[tuple[int, ...]]], machines: Sequence[Machine], problem: Problem
) -> tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]:
    """For each replica, for each of its stages: the machine and the GPUs.

    `cuts` says for each class how its machines are cut into parts.  A replica's segments go to different machines
    where that is possible, as its links were priced; where not, they share one, which is only quicker.
    """
    free = [
        Free(tuple(m for m in machines if m.group == cls.name), [list(cut) for cut in cuts[c]])
        for c, cls in enumerate(problem.classes)
    ]
    return tuple(_replica(shape, free) for shape in chosen)


def _replica(shape: Shape, free: Sequence[Free]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    stages: list[tuple[str, tuple[int, ...]]] = []
    used: frozenset[str] = frozenset()
    for segment in shape.segments:
        pool = free[segment.cls]
        found = pool.take(segment.size, used) or pool.take(segment.size, frozenset())
        if found is None:
            raise AssertionError("the cuts of the machines do not hold the segments that were chosen")
        machine, gpus = found
        used |= {machine}
        for degree in segment.degrees:
            stages.append((machine, gpus[:degree]))
            gpus = gpus[degree:]
    return tuple(stages)
