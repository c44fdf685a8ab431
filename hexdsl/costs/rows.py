"""Rows of a user's table: numbers and words by column, each complaint with its file, line and fix."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.values import suggestion

T = TypeVar("T")

MOST = 10
"""Complaints that are told at once."""

WHOLE_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table, or the options of a command: what messages call its place, and their code."""

    place: str
    values: Mapping[str, str]
    code: str = "E142"

    def over(self, defaults: Mapping[str, str]) -> Row:
        """The row with values for what it leaves empty."""
        own = {column: text for column, text in self.values.items() if text}
        return Row(self.place, {**defaults, **own}, self.code)

    def has(self, column: str) -> bool:
        """Whether something is written there."""
        return bool(self.values.get(column))

    def text(self, column: str, default: str | None = None) -> str:
        """The text of a column.  Raises UsageError where there is neither text nor a default."""
        if self.has(column):
            return self.values[column]
        if default is None:
            raise self.wrong(f"`{column}` is empty", f"give every row its `{column}`")
        return default

    def word(self, column: str, known: Iterable[str], default: str | None = None) -> str:
        """A text that must be one of the known words."""
        names, found = tuple(known), self.text(column, default)
        if found not in names:
            raise self.wrong(f"`{column}` is `{found[:60]}`, which is not known here", suggestion(found, names))
        return found

    def number(self, column: str, default: float | None = None) -> float:
        """A finite number above zero."""
        if default is not None and not self.has(column):
            return default
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(f"`{column}` is `{text[:60]}`, not a number", "write a plain number") from None
        if not math.isfinite(value):
            raise self.wrong(f"`{column}` is {text}", "leave out rows whose measurement failed")
        if value <= 0:
            raise self.wrong(f"`{column}` is {text}, but must be more than zero", "leave out or correct the row")
        return value

    def whole(self, column: str, default: int | None = None) -> int:
        """A whole number above zero."""
        value = self.number(column, default)
        if value != int(value) or value > WHOLE_MAX:
            raise self.wrong(f"`{column}` is {self.values[column]}, not a whole number", "write a whole number")
        return int(value)

    def wrong(self, message: str, help_: str) -> UsageError:
        """The error about this row."""
        return UsageError([Diagnostic(self.code, f"{self.place}: {message}", (), help_)])


def read_csv(data: bytes, name: str, required: Sequence[str]) -> tuple[Row, ...]:
    """The rows of a CSV text with a header.  Raises UsageError (E142) where it is none or lacks a required column."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise unusable(f"`{name}`, line {line}: this is not UTF-8 text", "save the file as UTF-8") from None
    if "\0" in text:
        raise unusable(f"`{name}` holds NUL bytes", "give a CSV file; parquet files end in `.parquet`")
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        check_columns([c.strip() for c in reader.fieldnames or ()], name, required)
        rows = tuple(_row(f"`{name}`, line {reader.line_num}", found) for found in reader)
    except csv.Error as error:
        raise unusable(f"`{name}`, line {reader.line_num}: {error}", "give a CSV file with a header line") from None
    return check_rows(rows, name)


def _row(place: str, found: Mapping[str | None, object]) -> Row:
    if None in found:
        raise unusable(f"{place}: the row has more values than the header has columns", "quote values with commas")
    return Row(place, {str(k).strip(): str(v).strip() for k, v in found.items() if v is not None})


def check_columns(columns: Sequence[str], name: str, required: Sequence[str]) -> None:
    """Raises UsageError where a column is missing or there twice."""
    if not any(columns):
        raise unusable(f"`{name}` is empty", f"its first line names the columns: {', '.join(required)}, ...")
    twice = next((c for c in columns if columns.count(c) > 1), None)
    if twice is not None:
        raise unusable(f"`{name}`, line 1: column `{twice}` is there twice", "keep one of them")
    missing = [c for c in required if c not in columns]
    if missing:
        names = ", ".join(f"`{c}`" for c in missing)
        raise unusable(f"`{name}`, line 1: there is no column {names}", f"the columns are {', '.join(required)}, ...")


def check_rows(rows: tuple[Row, ...], name: str) -> tuple[Row, ...]:
    """The rows.  Raises UsageError where there are none."""
    if not rows:
        raise unusable(f"`{name}` has a header but no rows", "give at least one row")
    return rows


def each(rows: Iterable[Row], parse: Callable[[Row], T]) -> tuple[T, ...]:
    """Every row parsed.  Raises UsageError with what is wrong in the first few bad rows."""
    found: list[T] = []
    bad: list[Diagnostic] = []
    for row in rows:
        try:
            found.append(parse(row))
        except UsageError as error:
            bad += error.diagnostics
            if len(bad) >= MOST:
                break
    if bad:
        raise UsageError(bad[:MOST])
    return tuple(found)


def unusable(message: str, help_: str) -> UsageError:
    """The error about a table as a whole."""
    return UsageError([Diagnostic("E142", message, (), help_)])
