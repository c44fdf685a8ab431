"""How long an engine's step takes, given what is in it: the interface, and the batch."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Batch(NamedTuple):
    """A step: `decodes` sequences of one token each over `context` tokens of history in all, and prefill chunks.

    `shortest` and `longest` are the extreme histories among the decodes.  A chunk is (tokens, tokens of history).
    """

    decodes: int
    context: int
    shortest: int
    longest: int
    chunks: tuple[tuple[int, int], ...] = ()

    def later(self, steps: int) -> Batch:
        """The same decodes, so many steps later."""
        n = self.decodes
        return Batch(n, self.context + steps * n, self.shortest + steps, self.longest + steps)


class StepTimes(Protocol):
    """Seconds of a step in each member of a pipeline: the stages in order, with the links between them if any.

    A member holds one step at a time.  `latency_s` is what passes after each member without keeping it busy.
    `stages` says how many steps may be under way.  While a batch only decodes, times must be close to linear in
    `context`: that is what lets the simulator jump over decode runs.
    """

    @property
    def stages(self) -> int: ...

    @property
    def latency_s(self) -> tuple[float, ...]: ...

    def seconds(self, batch: Batch) -> tuple[float, ...]: ...
