"""A table of peers, as CSV: one machine a row, with its GPU, what it sends and takes, and its region."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from hexdsl.ir.quantity import BANDWIDTH, COUNT, SECONDS, Quantity, Unit
from hexdsl.ir.spec.cluster import Peer, Peers
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.values import suggestion
from hexdsl.lang.units import UnitError, quantity

NEEDED = ("name", "gpu", "up", "down", "region")
OPTIONAL = ("gpus", "rtt")
UNITS: Mapping[str, Unit] = {"up": BANDWIDTH, "down": BANDWIDTH, "rtt": SECONDS, "gpus": COUNT}

EXAMPLES = {"up": "40Mb/s", "down": "250Mb/s", "rtt": "20ms", "gpus": "2"}

MOST = 10
"""Mistakes of one file that are told at once."""

FindGpu = Callable[[str], Gpu | None]
"""The GPU of a name; None where there is none."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a table, and how to put it right."""

    message: str
    help: str


@dataclass(frozen=True)
class Table:
    """Rows of cells by column, each with the line that it stands on."""

    name: str
    rows: tuple[tuple[int, Mapping[str, str]], ...]


def read_peers(data: bytes, name: str, sha256: str, gpu: FindGpu, known: tuple[str, ...]) -> Peers | list[Mistake]:
    """The peers of a file, or what is wrong with it; `known` are the names of GPUs that may be meant."""
    table = _table(data, name)
    if isinstance(table, Mistake):
        return [table]
    mistakes = list(_mistakes(table, gpu, known))
    if mistakes:
        return mistakes[:MOST]
    rows = tuple(_peer(cells) for _, cells in table.rows)
    found = {row.gpu: gpu(row.gpu) for row in rows}
    return Peers(path=name, sha256=sha256, gpus=tuple(g for g in found.values() if g is not None), rows=rows)


def _table(data: bytes, name: str) -> Table | Mistake:
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        rows = tuple((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
    except UnicodeDecodeError:
        return Mistake(f"`{name}` is not UTF-8 text", "save it in UTF-8")
    except csv.Error as error:
        return Mistake(f"`{name}` is not CSV: {error}", f"the first line is `{','.join(NEEDED)}`")
    wrong = _header(header, name) or _empty(rows, name) or _ragged(header, rows, name)
    if wrong:
        return wrong
    return Table(name, tuple((n, dict(zip(header, (c.strip() for c in cells), strict=True))) for n, cells in rows))


def _header(header: list[str], name: str) -> Mistake | None:
    missing = [column for column in NEEDED if column not in header]
    if missing:
        lacking = ", ".join(f"`{column}`" for column in missing)
        return Mistake(f"`{name}` has no column {lacking}", f"the first line is `{','.join(NEEDED)}`")
    unknown = [column for column in header if column not in (*NEEDED, *OPTIONAL)]
    if unknown:
        return Mistake(f"`{name}` has an unknown column `{unknown[0]}`", suggestion(unknown[0], (*NEEDED, *OPTIONAL)))
    twice = next((column for column in header if header.count(column) > 1), None)
    return Mistake(f"`{name}` has two columns `{twice}`", "keep one of them") if twice else None


def _empty(rows: tuple[Any, ...], name: str) -> Mistake | None:
    return None if rows else Mistake(f"`{name}` names no peers", "write one peer a line")


def _ragged(header: list[str], rows: tuple[tuple[int, list[str]], ...], name: str) -> Mistake | None:
    line = next((n for n, cells in rows if len(cells) != len(header)), None)
    if line is None:
        return None
    return Mistake(f"`{name}`, line {line}: there must be {len(header)} cells", "separate them by commas")


def _mistakes(table: Table, gpu: FindGpu, known: tuple[str, ...]) -> Iterator[Mistake]:
    """Every mistake in the rows; of a GPU that is not there only the first row is told."""
    seen: dict[str, int] = {}
    missing: set[str] = set()
    for line, cells in table.rows:
        where, name, kind = f"`{table.name}`, line {line}: ", cells["name"], cells["gpu"]
        if name and name in seen:
            yield Mistake(f"{where}peer `{name}` stands on line {seen[name]} already", "name each peer once")
        seen.setdefault(name, line)
        if kind not in missing and gpu(kind) is None:
            missing.add(kind)
            yield Mistake(f"{where}there is no GPU `{kind}`", suggestion(kind, known))
        wrong = _wrong(cells)
        if wrong:
            yield Mistake(where + wrong.message, wrong.help)


def _wrong(cells: Mapping[str, str]) -> Mistake | None:
    """What is wrong with the figures and the names of a row."""
    if not cells["name"]:
        return Mistake("the peer has no name", "name each peer once")
    for column, unit in UNITS.items():
        text = cells.get(column, "")
        if text or column in NEEDED:
            try:
                unit.accept(_quantity(text))
            except UnitError as error:
                return Mistake(f"`{column}`: {error.message}", error.help or f"for example `{EXAMPLES[column]}`")
            except PydanticCustomError as error:
                return Mistake(f"`{column}`: {error.message()}", f"for example `{EXAMPLES[column]}`")
    try:
        _peer(cells)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        help_ = first.get("ctx", {}).get("help", "a region is letters, digits and `_`, and begins with no digit")
        return Mistake(f"`{first['loc'][0]}`: `{cells[str(first['loc'][0])]}` cannot be used", str(help_))
    return None


def _peer(cells: Mapping[str, str]) -> Peer:
    values: dict[str, Any] = {k: _quantity(v) if k in UNITS else v for k, v in cells.items() if v}
    return Peer.model_validate(values)


@cache
def _quantity(text: str) -> Quantity:
    """A figure with its unit.  Raises UnitError; a minus sign is told as what it is."""
    if text.startswith("-"):
        quantity(text[1:])
        raise UnitError(f"`{text}` is less than zero", "write what the link carries, such as `40Mb/s`")
    return quantity(text)
