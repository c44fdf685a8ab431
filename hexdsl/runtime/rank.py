"""What every rank does with a step: compute its layers, pass it on, and on the last stage choose tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hexdsl.runtime.model import Stage
from hexdsl.runtime.mover import Mover
from hexdsl.runtime.pipe import Pipe
from hexdsl.runtime.sampling import choose
from hexdsl.runtime.step import Step


@dataclass(frozen=True)
class Rank:
    """`last` is a member of the last stage, `leader` the one member that answers rank 0."""

    stage: Stage
    pipe: Pipe
    mover: Mover
    last: bool
    leader: bool

    def run(self, step: Step, incoming: Tensor | None) -> None:
        self.mover.before(step)
        if step.chunks:
            self._compute(step, incoming)
        else:
            self.pipe.forward(step, None)
        self.mover.after(step)

    def _compute(self, step: Step, incoming: Tensor | None) -> None:
        hidden = self.stage.hidden(step, incoming)
        if not self.last:
            self.pipe.forward(step, hidden)
        elif step.draws:
            logits = self.stage.logits(step, hidden)
            if self.leader:
                self.pipe.answer(choose(logits, step.draws))

    def follow(self) -> None:
        """Ranks other than 0: steps as they come, until told to stop."""
        kind = "beat"
        while kind != "stop":
            step, incoming = self.pipe.receive()
            self.run(step, incoming)
            kind = step.kind
        self.pipe.flush()
