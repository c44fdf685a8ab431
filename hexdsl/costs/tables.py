"""Tables of measured operators, and the profile that they come to."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import Any

from hexdsl.costs.gpu import BYTES_PER_VALUE
from hexdsl.costs.rows import Row, check_columns, check_rows, each, read_csv, unusable
from hexdsl.ir.spec.profile import AllReduce, Attention, Gemm, Profile, Transfer

SIZES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention_prefill": ("batch", "heads", "kv_heads", "head_dim", "tokens"),
    "attention_decode": ("batch", "heads", "kv_heads", "head_dim", "tokens"),
    "memory_copy": ("bytes",),
    "all_reduce": ("gpus", "bytes"),
    "p2p": ("bytes",),
}
"""Operators, and the columns of their sizes; the others stay empty."""

TYPED = ("gemm", "attention_prefill", "attention_decode")
"""Operators that have a number format."""

REQUIRED = ("operator", "seconds")
COLUMNS = ("operator", "dtype", *dict.fromkeys(c for sizes in SIZES.values() for c in sizes), "seconds")

FEW_ROWS = 16
"""Products of so few rows spend their time reading weights."""

LARGE = 64e6
"""Bytes from which a read does not come out of a cache."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured operator: its sizes in the order of `SIZES`, and its seconds."""

    operator: str
    dtype: str
    sizes: tuple[int, ...]
    seconds: float


def read_table(data: bytes, name: str) -> tuple[Measured, ...]:
    """The operators of a table: CSV, or parquet where the name ends so.  Raises UsageError with file, row and fix."""
    read = _read_parquet if name.endswith(".parquet") else read_csv
    return each(read(data, name, REQUIRED), _measured)


def _measured(row: Row) -> Measured:
    operator = row.word("operator", SIZES)
    dtype = row.word("dtype", BYTES_PER_VALUE) if operator in TYPED else ""
    sizes = tuple(row.whole(column) for column in SIZES[operator])
    if operator == "all_reduce" and sizes[0] < 2:
        raise row.wrong("an all-reduce of one GPU", "`gpus` is at least 2")
    return Measured(operator, dtype, sizes, row.number("seconds"))


def _read_parquet(data: bytes, name: str, required: Sequence[str]) -> tuple[Row, ...]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        help_ = "install it (`pip install 'hexdsl[profiles]'`), or save the table as CSV"
        raise unusable(f"`{name}`: reading parquet needs the package pyarrow", help_) from None
    try:
        table = parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise unusable(f"`{name}` is not a parquet file: {str(error).splitlines()[0]}", "save it again") from None
    check_columns(table.column_names, name, required)
    found: Iterable[dict[str, Any]] = table.to_pylist()
    rows = (
        Row(f"`{name}`, row {i}", {k: str(v) for k, v in values.items() if v is not None})
        for i, values in enumerate(found, 1)
    )
    return check_rows(tuple(rows), name)


def write_table(rows: Iterable[Measured]) -> str:
    """The CSV text of a table."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        sizes = dict(zip(SIZES[row.operator], row.sizes, strict=True))
        writer.writerow({"operator": row.operator, "dtype": row.dtype, "seconds": f"{row.seconds:.6g}", **sizes})
    return out.getvalue()


def profile_of(rows: Sequence[Measured], gpu: str, source: str, memory_bytes: float | None = None) -> Profile:
    """What a table comes to.  Raises UsageError where no operator in it is one that the costs use."""
    by_operator: dict[str, list[Measured]] = defaultdict(list)
    for row in rows:
        by_operator[row.operator].append(row)
    found = {field: reduced(by_operator[name]) for field, name, reduced in _REDUCED if by_operator[name]}
    gemm = by_operator["gemm"]
    if not gemm and not {"attention", "kv_bytes_per_s", "all_reduce"} & found.keys():
        help_ = "measure one of gemm, attention_prefill, attention_decode, all_reduce"
        raise unusable("the table holds no operator that the costs are made of", help_)
    return Profile(
        format_version="1.0",
        gpu=gpu,
        source=source,
        memory_bytes=memory_bytes,
        gemm={dtype: _gemm([r for r in gemm if r.dtype == dtype]) for dtype in sorted({r.dtype for r in gemm})},
        weights_bytes_per_s=_weights(gemm),
        **found,
    )


def _by_size(rows: Iterable[Measured], size: int, rate: Callable[[Measured], float]) -> dict[int, float]:
    """The median rate at each value of one size, rising."""
    found: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        found[row.sizes[size]].append(rate(row))
    return {at: _rounded(median(rates)) for at, rates in sorted(found.items())}


def _gemm(rows: Sequence[Measured]) -> Gemm:
    curve = _by_size(rows, 0, lambda r: 2.0 * prod(map(float, r.sizes)) / r.seconds)
    return Gemm(m=tuple(curve), flop_per_s=tuple(curve.values()))


def _weights(rows: Sequence[Measured]) -> float | None:
    """Bandwidth of reading weights: the best number of few rows, in the widest format that was measured."""
    few = [r for r in rows if r.sizes[0] <= FEW_ROWS]
    widest = max((BYTES_PER_VALUE[r.dtype] for r in few), default=0.0)
    reads: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for r in few:
        if BYTES_PER_VALUE[r.dtype] == widest:
            reads[r.sizes[0]].append((r.sizes[1] * r.sizes[2] * widest, r.seconds))
    return max((rate for found in reads.values() if (rate := _large(found))), default=None)


def _large(reads: Sequence[tuple[float, float]]) -> float | None:
    """Median rate of the (bytes, seconds) that no cache holds, else of the largest."""
    if not reads:
        return None
    least = min(LARGE, max(size for size, _ in reads))
    return _rounded(median(size / seconds for size, seconds in reads if size >= least))


def _kv(rows: Sequence[Measured]) -> float | None:
    reads = []
    for r in rows:
        batch, _, kv_heads, head_dim, tokens = r.sizes
        reads.append((2.0 * batch * kv_heads * head_dim * tokens * BYTES_PER_VALUE[r.dtype], r.seconds))
    return _large(reads)


def _prefill(rows: Sequence[Measured]) -> Attention:
    """FLOP/s by prompt length, of single prompts where there are some."""
    single = [r for r in rows if r.sizes[0] == 1] or rows
    curve = _by_size(single, 4, _causal)
    return Attention(tokens=tuple(curve), flop_per_s=tuple(curve.values()))


def _causal(row: Measured) -> float:
    batch, heads, _, head_dim, tokens = map(float, row.sizes)
    return 2 * batch * heads * head_dim * tokens**2 / row.seconds


def _copy(rows: Sequence[Measured]) -> float | None:
    return _large([(2.0 * r.sizes[0], r.seconds) for r in rows])


def _reduces(rows: Sequence[Measured]) -> AllReduce:
    counts = sorted({r.sizes[0] for r in rows})
    lines = [_line([(r.sizes[1], r.seconds) for r in rows if r.sizes[0] == n]) for n in counts]
    bus = tuple(_rounded(2 * (n - 1) / n / per_byte) for n, (_, per_byte) in zip(counts, lines, strict=True))
    return AllReduce(gpus=tuple(counts), start_s=tuple(_rounded(a) for a, _ in lines), bus_bytes_per_s=bus)


def _p2p(rows: Sequence[Measured]) -> Transfer:
    start, per_byte = _line([(r.sizes[0], r.seconds) for r in rows])
    return Transfer(start_s=_rounded(start), bytes_per_s=_rounded(1 / per_byte))


def _line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Start-up and seconds per byte: the largest messages give the slope, the smallest what is left."""
    size, seconds = max(points)
    smallest, least = min(points)
    if smallest == size:
        return 0.0, seconds / size
    per_byte = max((seconds - least) / (size - smallest), 0.5 * seconds / size)
    return max(0.0, least - smallest * per_byte), per_byte


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


_REDUCED: tuple[tuple[str, str, Callable[[Sequence[Measured]], Any]], ...] = (
    ("attention", "attention_prefill", _prefill),
    ("kv_bytes_per_s", "attention_decode", _kv),
    ("copy_bytes_per_s", "memory_copy", _copy),
    ("all_reduce", "all_reduce", _reduces),
    ("p2p", "p2p", _p2p),
)
"""Field of the profile, the operator that it comes from, and how."""
