"""What a workload takes from its trace."""

from __future__ import annotations

from typing import Any

from hexdsl.ir.quantity import Quantity
from hexdsl.ir.spec.workload import SLOWEST, Empirical, Recorded
from hexdsl.ir.trace import LARGEST, Rows, TraceError, read_rows
from hexdsl.lang.draft import Draft
from hexdsl.lang.evaluate import Place
from hexdsl.lang.scope import Report

__all__ = ["LARGEST", "fill"]


def fill(draft: Draft, data: bytes, name: str, place: Place, report: Report) -> None:
    """Fills the arrivals and lengths that a workload leaves out from its trace, which is written at a place."""
    columns = draft.values.get("columns")
    if "columns" in draft.bad or not _is_map(columns):
        return
    try:
        rows = read_rows(data, name, columns, timed=not _says_arrivals(draft))
        found = _found(draft, rows, name)
    except TraceError as error:
        span = draft.place.parts["columns"].span if error.of_map else place.span
        report.error("E144", error.said, span, error.help)
        draft.put_bad("trace")
        return
    for what, value in found.items():
        if what not in draft.values and what not in draft.bad:
            draft.put(what, value, place)


def _is_map(columns: Any) -> bool:
    """Whether a column map can be used; where it cannot, its schema says so."""
    return columns is None or (isinstance(columns, dict) and all(type(v) is str for v in columns.values()))


def _says_arrivals(draft: Draft) -> bool:
    return bool({"arrivals", "clients"} & (draft.values.keys() | draft.bad))


def _found(draft: Draft, rows: Rows, name: str) -> dict[str, Any]:
    """What the rows say.  Raises TraceError where the arrivals are needed and have no rate."""
    found: dict[str, Any] = {"prompt": Empirical.of(rows.prompt, rows.repeated), "output": Empirical.of(rows.output)}
    if _says_arrivals(draft) or rows.arrival_s is None:
        return found
    found["arrivals"] = Recorded.of(rows.arrival_s, _speed(draft))
    if found["arrivals"] is None:
        message = "its requests arrive all at once, so that they have no rate"
        raise TraceError(name, None, message, "say how requests arrive: `arrivals = poisson(12req/s)`")
    return found


def _speed(draft: Draft) -> float:
    """The speed that is written, where it is a usable number; where it is not, its schema says so."""
    speed = draft.values.get("speed")
    if isinstance(speed, Quantity) and SLOWEST <= speed.value <= 1 / SLOWEST:
        return speed.value
    return 1.0
