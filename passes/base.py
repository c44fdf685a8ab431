"""What a pass is, and how a row of them is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hexdsl.ir.plan import Plan

After = Callable[["Pass", Plan, float], None]


@dataclass(frozen=True)
class Pass:
    """A named pure function `Plan -> Plan`, with the facts that it needs and gives."""

    run: Callable[[Plan], Plan]
    needs: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def summary(self) -> str:
        """The first line of the pass's docstring."""
        return (self.run.__doc__ or "").strip().split("\n")[0]


def run_passes(passes: Sequence[Pass], plan: Plan, after: After) -> Plan:
    """Runs the passes in order.  `after` is called with each pass, its plan and its wall-clock seconds.

    Raises ValueError where a pass needs what no earlier pass gives: an error of whoever wrote the order.
    """
    known: set[str] = set()
    for step in passes:
        missing = set(step.needs) - known
        if missing:
            raise ValueError(f"pass `{step.name}` needs {sorted(missing)}, which no earlier pass gives")
        start = time.perf_counter()
        plan = step.run(plan)
        known |= set(step.gives)
        after(step, plan, time.perf_counter() - start)
    return plan
