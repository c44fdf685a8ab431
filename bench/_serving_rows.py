"""The one table of bench/serving.py: a row is a figure of hexc beside another's, and who judged both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

Found = TypeVar("Found")


class Spent(NamedTuple):
    """Seconds on the clock, and of this process's processor time, which others on the machine do not change."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Row:
    """`met` says whether a bar is met: yes, no, or empty where the row is for information.

    Bars on seconds are held against processor time: planning has one thread.  `bound` is what no plan beats, by a
    relaxation; `gap` is how far the plan is from it.  `runs` says how much was simulated and how sure the ratio is.
    """

    part: str
    case: str
    figure: str
    hexc: float | str
    other: float | str
    whose: str
    judged_by: str
    spent: Spent | None = None
    met: str = ""
    bound: float | None = None
    runs: str = ""

    @property
    def ratio(self) -> float | str:
        """hexc's figure over the other's, where both are numbers."""
        numbers = isinstance(self.hexc, float) and isinstance(self.other, float) and self.other != 0
        return self.hexc / self.other if numbers else ""  # type: ignore[operator]

    @property
    def gap(self) -> str:
        known = self.bound is not None and self.bound > 0 and isinstance(self.hexc, float)
        return f"{1 - self.hexc / self.bound:.1%}" if known else ""  # type: ignore[operator]

    def plain(self) -> dict[str, Any]:
        found = {k: _short(getattr(self, k)) for k in HEADER if k not in ("wall_s", "cpu_s")}
        wall, cpu = self.spent or ("", "")
        found |= {"bound": "" if self.bound is None else _short(self.bound), "wall_s": _time(wall), "cpu_s": _time(cpu)}
        return {k: found[k] for k in HEADER}


HEADER = (
    "part", "case", "figure", "hexc", "other", "whose", "ratio", "met", "wall_s", "cpu_s", "bound", "gap", "runs",
    "judged_by",
)  # fmt: skip

Job = Callable[[], list[Row]]
"""Rows that can be made in a process of their own, in any order."""


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _time(value: float | str) -> float | str:
    return round(value, 3) if isinstance(value, float) else value


def bar(met: bool) -> str:
    return "yes" if met else "no"


def timed(work: Callable[[], Found]) -> tuple[Found, Spent]:
    """What the work returns, and what it took."""
    begun, used = time.perf_counter(), time.process_time()
    found = work()
    return found, Spent(time.perf_counter() - begun, time.process_time() - used)


def listed(rows: Callable[..., Iterator[Row]], *args: Any) -> list[Row]:
    """All rows of a generator: what a `Job` runs."""
    return list(rows(*args))
