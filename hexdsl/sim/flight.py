"""Steps under way, and runs of decode steps that are computed in one go.

Both kinds of run can be cut short at any time, as if each step had been an event of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hexdsl.sim.job import Lane


@dataclass(slots=True)
class Flight:
    """Steps of one lane from `start_s` on: the first takes `first_s`, each later one `slope_s` more than the last."""

    start_s: float
    steps: int
    first_s: float
    slope_s: float = 0.0
    version: int = 0
    busy_s: tuple[float, ...] = ()
    """Where members are not at work all the time: what the step takes of each."""

    def after(self, steps: int) -> float:
        """The time at which so many steps are done."""
        return self.start_s + steps * self.first_s + self.slope_s * (steps * (steps - 1) / 2)

    @property
    def end_s(self) -> float:
        return self.after(self.steps)

    def cut(self, now_s: float) -> bool:
        """Ends the run with the step that is under way at `now_s`; whether that changes anything."""
        low, high = 1, self.steps
        while low < high:
            middle = (low + high) // 2
            if self.after(middle) >= now_s:
                high = middle
            else:
                low = middle + 1
        shorter = low < self.steps
        self.steps = low
        return shorter


@dataclass(slots=True)
class Loop:
    """A lane that goes round a pipeline: step j keeps member i busy for `first[i] + j * slope[i]` seconds."""

    lane: Lane
    end_s: float
    left: int
    first: tuple[float, ...]
    slope: tuple[float, ...]
    done: int = 0

    def busy_s(self, steps: int) -> tuple[float, ...]:
        """Seconds that the first so many steps keep each member busy."""
        pairs = zip(self.first, self.slope, strict=True)
        return tuple(steps * first + slope * (steps * (steps - 1) / 2) for first, slope in pairs)

    def last_s(self) -> tuple[float, ...]:
        """Seconds that the last step keeps each member busy."""
        return tuple(first + slope * (self.done - 1) for first, slope in zip(self.first, self.slope, strict=True))


class Ahead:
    """Decode steps of all lanes of a pipeline, one after the other as they return, computed ahead of the clock."""

    def __init__(self, loops: Sequence[Loop], latency_s: Sequence[float], free_at: list[float], blocks: int) -> None:
        self.loops = loops
        self.free_at = free_at
        self._latency_s = latency_s
        self._starts: list[float] = []
        self._sent: list[tuple[Loop, float, int, tuple[float, ...]]] = []
        self._blocks = blocks
        self.end_s = self._run(deque(sorted(loops, key=lambda loop: loop.end_s)))

    def _run(self, queue: deque[Loop]) -> float:
        """Until the next lane to return has something else to do, or needs a block that is not there."""
        blocks, free, members = self._blocks, list(self.free_at), range(len(self.free_at))
        while True:
            loop = queue[0]
            start, lane, step = loop.end_s, loop.lane, loop.done
            need = lane.residues[(lane.steps + step + 1) % lane.block]
            if step == loop.left or need > blocks:
                return start
            blocks -= need
            at = start
            for i in members:
                at = free[i] = (free[i] if free[i] > at else at) + loop.first[i] + step * loop.slope[i]
                at += self._latency_s[i]
            loop.done, loop.end_s = step + 1, at
            self._starts.append(start)
            self._sent.append((loop, at, need, tuple(free)))
            queue.rotate(-1)

    def settle(self, now_s: float) -> int:
        """Keeps only the steps that had started before `now_s`: the loops and `free_at` tell; returns their blocks."""
        kept = self._sent[: bisect_left(self._starts, now_s)]
        for loop in self.loops:
            loop.done = 0
        for loop, end, *_ in kept:
            loop.done += 1
            loop.end_s = end
        if kept:
            self.free_at = list(kept[-1][3])
        return sum(need for _, _, need, _ in kept)
