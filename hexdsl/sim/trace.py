"""Recorded traces as requests.  `hexdsl.ir.trace` reads the files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from hexdsl.ir.trace import LARGEST, Rows, TraceError, read_rows
from hexdsl.sim.request import Request


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of arrival, the first at 0 s.  `timed` is False where the file has no arrival times."""

    name: str
    requests: tuple[Request, ...]
    timed: bool

    def scaled(self, time_scale: float) -> Trace:
        """All gaps times this factor: 0.5 doubles the rate.  Raises ValueError where it is not above zero."""
        if not 0 < time_scale < math.inf:
            raise ValueError("the time scale must be a number above zero")
        return replace(self, requests=tuple(replace(r, arrival_s=r.arrival_s * time_scale) for r in self.requests))

    def arriving_at(self, times: Sequence[float]) -> Trace:
        """The same requests at other times, which must ascend; as many as there are times."""
        moved = (replace(r, arrival_s=float(t)) for r, t in zip(self.requests, times, strict=False))
        return replace(self, requests=tuple(moved), timed=True)

    def window(self, count: int, number: int, of: int) -> tuple[Request, ...]:
        """So many requests in a row, the first at 0 s: the `number`-th of `of` windows that start evenly apart."""
        start = number * len(self.requests) // of
        rows = self.requests[start : start + count]
        return tuple(replace(r, arrival_s=r.arrival_s - rows[0].arrival_s) for r in rows) if start else rows


def read_trace(
    path: Path, columns: Mapping[str, str] | None = None, limit: int | None = None, timed: bool = True
) -> Trace:
    """The requests of a trace, at most `limit` of them; see `hexdsl.ir.trace.read_rows`.  Raises TraceError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise TraceError(
            str(path), None, f"it cannot be read: {error.strerror}", "give a CSV or JSON lines file"
        ) from None
    return trace_of(read_rows(data, str(path), columns, limit, timed), str(path))


def trace_of(rows: Rows, name: str) -> Trace:
    """The requests of a trace that was read; without arrival times all come at 0 s."""
    return Trace(name, tuple(_requests(rows)), rows.arrival_s is not None)


def _requests(rows: Rows) -> Iterator[Request]:
    columns = zip(
        rows.arrival_s or repeat(0.0), rows.prompt, rows.output, rows.blocks or repeat(()),
        rows.priority or repeat(0), rows.klass or repeat(""), strict=False,
    )  # fmt: skip
    for i, (arrival, prompt, output, blocks, priority, klass) in enumerate(columns):
        yield Request(i, arrival, prompt, output, blocks, priority=priority, klass=klass)
