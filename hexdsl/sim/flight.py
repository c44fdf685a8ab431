"""A step under way, or a run of decode steps that is jumped over in one go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Flight:
    """`steps` steps from `start_s` on: the first takes `first_s`, each later one `slope_s` more than the one before."""

    start_s: float
    steps: int
    first_s: float
    slope_s: float
    used: int
    """Blocks in use at the start."""
    version: int

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
