"""The one table of bench/serving.py: a row is a figure of hexc beside another's, and who judged both."""

from __future__ import annotations

import time
from collections.abc import Callable
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

    Bars on seconds are held against processor time: planning has one thread.
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

    def plain(self) -> dict[str, Any]:
        texts = {k: _short(getattr(self, k)) for k in HEADER if k in self.__dataclass_fields__}
        wall, cpu = self.spent or ("", "")
        found = texts | {"wall_s": _short(wall), "cpu_s": _short(cpu)}
        return {k: found[k] for k in HEADER}


HEADER = ("part", "case", "figure", "hexc", "other", "whose", "judged_by", "wall_s", "cpu_s", "met")


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def bar(met: bool) -> str:
    return "yes" if met else "no"


def timed(work: Callable[[], Found]) -> tuple[Found, Spent]:
    """What the work returns, and what it took."""
    begun, used = time.perf_counter(), time.process_time()
    found = work()
    return found, Spent(time.perf_counter() - begun, time.process_time() - used)
