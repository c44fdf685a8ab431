"""Reading recorded traces: Azure 2023, Vidur, Mooncake, and plain CSV or JSON lines with a column map."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hexdsl.sim.request import Request

FORMATS: Mapping[str, Mapping[str, str]] = {
    "Azure": {"arrival": "TIMESTAMP", "prompt": "ContextTokens", "output": "GeneratedTokens"},
    "Vidur": {"arrival": "arrived_at", "prompt": "num_prefill_tokens", "output": "num_decode_tokens"},
    "Mooncake": {"arrival": "timestamp", "prompt": "input_length", "output": "output_length", "blocks": "hash_ids"},
    "plain": {"arrival": "arrival", "prompt": "prompt", "output": "output"},
}
"""The columns of the formats that are known without a map."""

COLUMNS = ("arrival", "prompt", "output", "class", "priority", "blocks")
"""What a column map may name.  `blocks` holds a list of ids of 512-token pieces (JSON lines only)."""

MILLISECONDS = {"timestamp": 1e-3}
"""Mooncake counts in milliseconds, everyone else in seconds."""


class TraceError(ValueError):
    """A trace that cannot be used.  `row` counts the lines of the file from 1; None where no single one is to blame."""

    def __init__(self, path: Path, row: int | None, message: str, help: str) -> None:
        self.path, self.row, self.message, self.help = path, row, message, help
        super().__init__(f"{path}{f', row {row}' if row else ''}: {message}; {help}")


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of arrival, the first at 0 s.  `timed` is False where the file has no arrival times."""

    path: Path
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


def read_trace(
    path: Path, columns: Mapping[str, str] | None = None, limit: int | None = None, timed: bool = True
) -> Trace:
    """The requests of a trace, at most `limit` of them.

    `columns` says which column holds what (`arrival prompt output class priority blocks`); without it the header tells
    the format.  Arrival is ISO time (UTC unless it says so itself), or a number of seconds; it is kept to the
    microsecond.  `timed=False` takes a file without arrival times as well.  Raises TraceError: a missing column, a
    length below one token, NaN, rows that go back in time, an empty file.
    """
    rows = _json_rows(path) if path.suffix in (".jsonl", ".json") else _csv_rows(path)
    requests: list[Request] = []
    names: Mapping[str, str] = {}
    start = last = 0.0
    try:
        for number, row in rows:
            names = names or _names(path, number, row, columns, timed)
            request = _request(path, number, row, names, len(requests))
            start = start if requests else request.arrival_s
            if request.arrival_s < last and requests:
                raise TraceError(path, number, "it arrives before the row above", "sort the rows by arrival")
            last = request.arrival_s
            requests.append(replace(request, arrival_s=round(last - start, 6)) if start else request)
            if len(requests) == limit:
                break
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(path, None, f"cannot be read: {error}", "give a CSV or JSON lines file in UTF-8") from error
    if not requests:
        raise TraceError(path, None, "the trace holds no requests", "give a file with a header and at least one row")
    return Trace(path, tuple(requests), "arrival" in names)


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if cells:
                yield reader.line_num, {name: cells[i] if i < len(cells) else None for i, name in enumerate(header)}


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise TraceError(path, number, "this is not a JSON object", "write one object a line")
            yield number, row


def _names(
    path: Path, number: int, row: Mapping[str, Any], columns: Mapping[str, str] | None, timed: bool
) -> Mapping[str, str]:
    """What each column is called in this file."""
    names = _known_names(path, row) if columns is None else _mapped_names(path, number, row, columns)
    if timed and "arrival" not in names:
        raise TraceError(path, 1, "no column of arrival times", "name it in the column map, or say how requests arrive")
    return names


def _known_names(path: Path, row: Mapping[str, Any]) -> Mapping[str, str]:
    known = [f for f in FORMATS.values() if f["prompt"] in row and f["output"] in row]
    if not known:
        tell = "; ".join(f"{name}: {', '.join(names.values())}" for name, names in FORMATS.items())
        raise TraceError(path, 1, "no known format has these columns", f"name them in a column map ({tell})")
    return {what: name for what, name in known[0].items() if name in row}


def _mapped_names(path: Path, number: int, row: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, str]:
    if unknown := sorted(set(columns) - set(COLUMNS)):
        raise TraceError(path, None, f"`{unknown[0]}` is no column", f"a map may name {', '.join(COLUMNS)}")
    if unmapped := [what for what in ("prompt", "output") if what not in columns]:
        raise TraceError(path, None, f"the column map lacks {' and '.join(unmapped)}", "say which columns hold them")
    if missing := [name for name in columns.values() if name not in row]:
        raise TraceError(path, number, f"no column `{missing[0]}`", f"the columns are {', '.join(row)}")
    return columns


def _request(path: Path, number: int, row: Mapping[str, Any], names: Mapping[str, str], index: int) -> Request:
    def cell(what: str, read: Callable[[Any], Any], none: Any, expected: str) -> Any:
        name = names.get(what)
        if name is None:
            return none
        try:
            return read(row[name])
        except (KeyError, TypeError, ValueError, OverflowError):
            shown = "missing" if row.get(name) is None else repr(row[name])[:40]
            raise TraceError(path, number, f"{name} is {shown}", f"write {expected}") from None

    at = cell("arrival", _time, 0.0, "seconds or an ISO time")
    return Request(
        id=index,
        arrival_s=at * MILLISECONDS.get(names.get("arrival", ""), 1.0),
        prompt=cell("prompt", _tokens, 0, "a whole number of tokens, at least 1"),
        output=cell("output", _tokens, 0, "a whole number of tokens, at least 1"),
        blocks=cell("blocks", _ids, (), "a list of whole numbers"),
        priority=cell("priority", int, 0, "a whole number"),
        klass=cell("class", str, "", "a name"),
    )


def _time(value: Any) -> float:
    try:
        seconds = float(value)
    except ValueError:
        moment = datetime.fromisoformat(value)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ValueError(value)
    return seconds


def _tokens(value: Any) -> int:
    number = float(value)
    if isinstance(value, bool) or not number.is_integer() or number < 1:
        raise ValueError(value)
    return int(number)


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(x) is int for x in value):
        raise TypeError(value)
    return tuple(value)
