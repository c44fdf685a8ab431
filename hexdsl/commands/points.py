"""Operating points from the command line or from the rows of a table, ready to be priced."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hexdsl.commands.base import spec_of
from hexdsl.commands.catalog import Catalog, catalog_of, in_formats, profiled
from hexdsl.costs.arch import tp_divides
from hexdsl.costs.gpu import BYTES_PER_VALUE, Link
from hexdsl.costs.memory import Engine
from hexdsl.costs.point import MOST_GPUS, Replica
from hexdsl.costs.rows import Row, each, read_csv
from hexdsl.costs.serving import Load
from hexdsl.ir.diagnostic import Diagnostic, SpecError, UsageError
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import FormatWord
from hexdsl.ir.spec.profile import Profile
from hexdsl.lang.source import read_bytes
from hexdsl.lang.units import UnitError, quantity
from hexdsl.passes.serve.adapter import STEP_TOKENS, arch_of, formats_of, gpu_of

MAX_ROWS_BYTES = 100_000_000
LONGEST = 10_000_000
"""Tokens of a prompt or an answer: more is a slip of the pen."""

MOST_BATCH = 1_000_000
COMMAND_LINE = "the command line"


@dataclass(frozen=True)
class Point:
    """A replica under a load; `measured` holds the seconds of `ttft` and `tpot` where a row has them."""

    label: str
    gpu: str
    config: str
    replica: Replica
    load: Load
    batch: float
    measured: Mapping[str, float]


@dataclass(frozen=True)
class Names:
    """What the command line says for rows that lack it."""

    catalog: Catalog
    defaults: Mapping[str, str]
    profile: Profile | None
    link: Link | None


COLUMNS = ("model", "gpu", "precision", "kv", "tp", "pp", "batch", "isl", "osl")
"""Columns of a table of points.  `precision` is the format of the weights; `isl` and `osl` are tokens in and out."""


def names_of(args: argparse.Namespace, profile: Profile | None) -> Names:
    """The catalog and the values that the command line gives; the profile is for every GPU.  Raises SpecError."""
    spec = spec_of(args, args.spec).spec if args.spec else None
    given = {c: getattr(args, c, None) for c in COLUMNS}
    link = link_of(args.link, "--link") if args.link else None
    defaults = {name: str(value) for name, value in given.items() if value is not None}
    return Names(catalog_of(spec), {"tp": "1", "pp": "1", **defaults}, profile, link)


def link_of(text: str, option: str) -> Link:
    """A link of a bandwidth given for both directions together.  Raises UsageError."""
    try:
        found = quantity(text)
    except UnitError as error:
        raise UsageError([Diagnostic("E032", f"`{option} {text}`: {error}", (), f"write `{option} 64GB/s`")]) from None
    if dict(found.dim) != {"B": 1, "s": -1} or found.value <= 0:
        raise UsageError([Diagnostic("E032", f"`{option} {text}` is not a bandwidth", (), f"write `{option} 64GB/s`")])
    return Link(found.value / 2)


def points_in(path: str, names: Names, required: tuple[str, ...] = ()) -> tuple[Point, ...]:
    """The points in the rows of a CSV file.  Raises UsageError with file, line and fix."""
    data = read_bytes(Path(path), path, MAX_ROWS_BYTES)
    needed = tuple(c for c in ("model", "gpu", "batch", "isl", "osl") if c not in names.defaults)
    return each(read_csv(data, path, (*needed, *required)), lambda row: point_of(row, names))


def point_alone(names: Names) -> Point:
    """The point that the command line describes."""
    for column, option in (("model", "--model"), ("gpu", "--gpu")):
        if column not in names.defaults:
            raise UsageError([Diagnostic("E004", f"which {column}?", (), f"write `{option} NAME`, or give `--from`")])
    alone = {"batch": "1", "isl": "1000", "osl": "200", **names.defaults}
    return point_of(Row(COMMAND_LINE, alone, "E004"), names)


def point_of(row: Row, names: Names) -> Point:
    """The point of one row.  Raises UsageError."""
    row = row.over(names.defaults)
    try:
        return _point(row, names)
    except SpecError as error:
        raise placed(error, row) from None


def placed(error: SpecError, row: Row) -> UsageError:
    """The error, with the row that it is about."""
    first = error.diagnostics[0]
    said = first.message if first.message.startswith(row.place) else f"{row.place}: {first.message}"
    return UsageError([Diagnostic(first.code, said, first.labels, first.help)])


def _point(row: Row, names: Names) -> Point:
    model, gpu = names.catalog.model(row.text("model")), gpu_in(row, names)
    model = in_formats(model, _format(row, "precision"), _format(row, "kv"))
    arch, tp, pp = arch_of(model), row.whole("tp"), row.whole("pp")
    if not tp_divides(arch, tp):
        raise row.wrong(f"tp {tp} does not divide the {arch.heads} heads of `{model.name}`", "choose another `tp`")
    if pp > arch.layers or tp * pp > MOST_GPUS:
        most = min(arch.layers, MOST_GPUS // tp)
        raise row.wrong(f"pp {pp} is too much for the {arch.layers} layers of `{model.name}`", f"at most {most}")
    link = names.link or (Link(gpu.link / 2) if gpu.link else None)
    replica = Replica(arch, gpu_of(gpu), formats_of(gpu, model), tp, pp, link)
    prompt, output, batch = (row.number(c) for c in ("isl", "osl", "batch"))
    if max(prompt, output) > LONGEST or batch > MOST_BATCH:
        raise row.wrong("a length or the batch is out of range", f"at most {LONGEST} tokens and {MOST_BATCH} requests")
    measured = {k: row.number(f"{k}_ms") / 1e3 for k in ("ttft", "tpot") if row.has(f"{k}_ms")}
    shape = f"tp{tp} pp{pp}" if pp > 1 else f"tp{tp}"
    config = f"{model.name} {replica.formats.weights} {shape}"
    return Point(row.place, gpu.name, config, replica, Load(prompt, max(1.0, output)), batch, measured)


def gpu_in(row: Row, names: Names) -> Gpu:
    """The GPU of a row, with the profile that the command line gives."""
    found = names.catalog.gpu(row.text("gpu"))
    return profiled(found, names.profile) if names.profile else found


def _format(row: Row, column: str) -> FormatWord | None:
    if not row.has(column):
        return None
    return cast(FormatWord, row.word(column, BYTES_PER_VALUE))


def rounded(value: Any) -> Any:
    """JSON with six significant digits, so that its bytes do not hang on the last bit."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def engine_from(args: argparse.Namespace) -> Engine:
    """The engine's limits that the command line gives.  Raises UsageError."""
    if not 0 < args.utilization <= 1:
        help_ = "a share of the memory, such as `--utilization 0.9`"
        raise UsageError([Diagnostic("E113", f"`--utilization {args.utilization:g}` is out of range", (), help_)])
    return Engine(args.utilization, STEP_TOKENS)
