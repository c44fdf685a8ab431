"""Recorded traces, column by column: Azure 2023, Vidur, Mooncake, and plain CSV or JSON lines with a column map."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any, TypeVar

T = TypeVar("T")

FORMATS: Mapping[str, Mapping[str, str]] = {
    "Azure": {"arrival": "TIMESTAMP", "prompt": "ContextTokens", "output": "GeneratedTokens"},
    "Vidur": {"arrival": "arrived_at", "prompt": "num_prefill_tokens", "output": "num_decode_tokens"},
    "Mooncake": {"arrival": "timestamp", "prompt": "input_length", "output": "output_length", "blocks": "hash_ids"},
    "plain": {"arrival": "arrival", "prompt": "prompt", "output": "output"},
}
"""The columns of the formats that are known without a map."""

BLOCK = 512
"""Tokens of a piece that an id in `blocks` stands for."""

COLUMNS = ("arrival", "prompt", "output", "class", "priority", "blocks")
"""What a column map may name.  `blocks` holds a list of ids of 512-token pieces (JSON lines only)."""

MILLISECONDS = {"timestamp": 1e-3}
"""Mooncake counts in milliseconds, everyone else in seconds."""

LARGEST = 64_000_000
"""Bytes of a trace: some two million requests."""


LATEST = 1e12
"""Seconds: every time is nearer to 0, as clocks that count microseconds since 1970 are not."""


class TraceError(ValueError):
    """A trace that cannot be used.  `line` counts the lines of the file from 1; None where no single one is to blame.

    `of_map` is True where the column map is to blame, and not the file.
    """

    def __init__(self, name: str, line: int | None, message: str, help: str, of_map: bool = False) -> None:
        self.name, self.line, self.message, self.help, self.of_map = name, line, message, help, of_map
        super().__init__(f"{self.said}; {help}")

    @property
    def said(self) -> str:
        """File, line and what is wrong."""
        return f"`{self.name}`{f', line {self.line}' if self.line else ''}: {self.message}"


@dataclass(frozen=True, slots=True)
class Rows:
    """A trace's requests in the order of arrival, one entry a request in each column that the file has.

    `arrival_s` starts at 0; it, `blocks`, `klass` and `priority` are None where the file has no such column.
    """

    prompt: tuple[int, ...]
    output: tuple[int, ...]
    arrival_s: tuple[float, ...] | None = None
    blocks: tuple[tuple[int, ...], ...] | None = None
    klass: tuple[str, ...] | None = None
    priority: tuple[int, ...] | None = None

    @property
    def repeated(self) -> float:
        """Share of the prompts' tokens that stand in leading pieces which an earlier request had, too."""
        seen: set[int] = set()
        found = 0
        for prompt, blocks in zip(self.prompt, self.blocks or (), strict=False):
            new = next((i for i, block in enumerate(blocks) if block not in seen), len(blocks))
            found += min(prompt, new * BLOCK)
            seen.update(blocks)
        return found / sum(self.prompt)


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of a file: lists of cells (CSV) or objects (JSON lines), and the line that each ends on."""

    name: str
    header: Mapping[str, int | str]
    rows: Sequence[Any]
    lines: Sequence[int]

    def column(self, name: str) -> list[Any]:
        """The cells of a column, None where a row has none."""
        key = self.header.get(name, name)
        if isinstance(key, int):
            return [row[key] if key < len(row) else None for row in self.rows]
        return [row.get(key) for row in self.rows]

    def read(self, name: str, read: Callable[[Any], T], expected: str) -> tuple[T, ...]:
        """A column's values.  Raises TraceError at the first cell that `read` refuses."""
        cells, found = self.column(name), []
        try:
            for cell in cells:
                found.append(read(cell))
        except (TypeError, ValueError, OverflowError):
            cell = cells[len(found)]
            shown = "missing" if cell is None or cell == "" else repr(cell)[:40]
            raise TraceError(self.name, self.lines[len(found)], f"{name} is {shown}", f"write {expected}") from None
        return tuple(found)


def read_rows(
    data: bytes, name: str, columns: Mapping[str, str] | None = None, limit: int | None = None, timed: bool = True
) -> Rows:
    """The columns of a trace, of at most `limit` requests; `name` is what messages call it.

    `columns` says which column holds what (`arrival prompt output class priority blocks`); without it the header tells
    the format.  Arrival is ISO time (UTC unless it says so itself), or a number of seconds; it is kept to the
    microsecond.  `timed=False` takes a file without arrival times as well.  Raises TraceError: a missing column, a
    length below one token, NaN, rows that go back in time, an empty file.
    """
    table = _table(data, name, limit)
    names = _names(table, columns, timed)

    def column(what: str, read: Callable[[Any], T], expected: str) -> tuple[T, ...] | None:
        return table.read(names[what], read, expected) if what in names else None

    tokens = "a whole number of tokens, at least 1"
    return Rows(
        prompt=table.read(names["prompt"], _tokens, tokens),
        output=table.read(names["output"], _tokens, tokens),
        arrival_s=_arrivals(table, names["arrival"]) if "arrival" in names else None,
        blocks=column("blocks", _ids, "a list of whole numbers"),
        klass=column("class", _word, "a name"),
        priority=column("priority", int, "a whole number"),
    )


def _table(data: bytes, name: str, limit: int | None) -> _Table:
    if len(data) > LARGEST:
        help_ = "cut it, such as with `head -n 100000`"
        raise TraceError(name, None, f"it is larger than {LARGEST // 10**6} MB", help_)
    try:
        text = data.decode("utf-8-sig")
        is_json = name.endswith((".jsonl", ".json")) or text.lstrip()[:1] == "{"
        table = _json_table(text, name, limit) if is_json else _csv_table(text, name, limit)
    except UnicodeDecodeError as error:
        raise TraceError(name, None, f"it cannot be read: {error}", "save it in UTF-8") from None
    except csv.Error as error:
        raise TraceError(name, None, f"it cannot be read: {error}", "give a CSV or JSON lines file") from None
    if not table.rows:
        raise TraceError(name, None, "the trace holds no requests", "give a file with a header and at least one row")
    return table


def _csv_table(text: str, name: str, limit: int | None) -> _Table:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = {cell.strip(): i for i, cell in enumerate(next(reader, []))}
    rows, lines = [], []
    for cells in islice((cells for cells in reader if cells), limit):
        rows.append(cells)
        lines.append(reader.line_num)
    return _Table(name, header, rows, lines)


def _json_table(text: str, name: str, limit: int | None) -> _Table:
    rows, lines = [], []
    for number, row in islice(_objects(text, name), limit):
        rows.append(row)
        lines.append(number)
    return _Table(name, {key: key for key in rows[0]} if rows else {}, rows, lines)


def _objects(text: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise TraceError(name, number, "this is not a whole JSON object", "write one object a line")
        yield number, row


def _names(table: _Table, columns: Mapping[str, str] | None, timed: bool) -> Mapping[str, str]:
    """What each column is called in this file."""
    names = _known_names(table) if columns is None else _mapped_names(table, columns)
    if timed and "arrival" not in names:
        help_ = "name it in the column map, or say how requests arrive: `arrivals = poisson(12req/s)`"
        raise TraceError(table.name, None, "it has no column of arrival times", help_)
    return names


def _known_names(table: _Table) -> Mapping[str, str]:
    known = next((f for f in FORMATS.values() if f["prompt"] in table.header and f["output"] in table.header), None)
    if known is None:
        tell = "; ".join(f"{name}: {', '.join(names.values())}" for name, names in FORMATS.items())
        message = "no known format has these columns"
        raise TraceError(table.name, 1, message, f"name them in a column map, or use a known format ({tell})")
    return {what: name for what, name in known.items() if name in table.header}


def _mapped_names(table: _Table, columns: Mapping[str, str]) -> Mapping[str, str]:
    def wrong(message: str, help: str) -> TraceError:
        return TraceError(table.name, None, message, help, of_map=True)

    if unknown := sorted(set(columns) - set(COLUMNS)):
        raise wrong(f"`{unknown[0]}` is nothing that a trace holds", f"a column map may name {', '.join(COLUMNS)}")
    if unmapped := [what for what in ("prompt", "output") if what not in columns]:
        raise wrong(f"the column map lacks {' and '.join(unmapped)}", "say which columns hold them")
    if missing := [name for name in columns.values() if name not in table.header]:
        raise wrong(f"there is no column `{missing[0]}`", f"the columns are {', '.join(table.header)[:300]}")
    return columns


def _arrivals(table: _Table, name: str) -> tuple[float, ...]:
    scale = MILLISECONDS.get(name, 1.0)
    read = _seconds if _reads(_seconds, table.column(name)[0]) else _moment
    times = table.read(name, read, "seconds or an ISO time, the same in every row")
    back = next((i for i, (a, b) in enumerate(pairwise(times), 1) if b < a), None)
    if back is not None:
        message = f"the request arrives before the one above it ({name} goes back in time)"
        raise TraceError(table.name, table.lines[back], message, "sort the rows by arrival")
    return tuple(round((t - times[0]) * scale, 6) for t in times)


def _reads(read: Callable[[Any], object], cell: Any) -> bool:
    try:
        read(cell)
    except (TypeError, ValueError):
        return False
    return True


def _seconds(value: Any) -> float:
    seconds = float(value)
    if isinstance(value, bool) or not abs(seconds) < LATEST:
        raise ValueError(value)
    return seconds


def _moment(value: Any) -> float:
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _tokens(value: Any) -> int:
    number = float(value)
    if isinstance(value, bool) or not number.is_integer() or not 1 <= number <= 2**53:
        raise ValueError(value)
    return int(number)


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(x) is int for x in value):
        raise TypeError(value)
    return tuple(value)


def _word(value: Any) -> str:
    if value is None:
        raise TypeError(value)
    return str(value)
