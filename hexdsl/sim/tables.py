"""Reading measured operator tables (CSV) into step times."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from hexdsl.sim.measured import Attention, Curve, MeasuredSteps, Skew, at

PER_LAYER: Mapping[str, int] = {
    "layernorm": 2,
    "qkv_proj": 1,
    "qk_norm": 1,
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
"""How often a layer calls each dense operator."""

ONCE = ("embedding", "final_layernorm")
SAMPLING = ("lm_head", "sampler")
OPTIONAL = ("qk_norm",)
MICRO = 1e-6


class TableError(ValueError):
    """A measured table that cannot be used: file, row, and what to do about it."""

    def __init__(self, path: Path, row: int | None, message: str, help: str) -> None:
        self.path, self.row, self.message, self.help = path, row, message, help
        super().__init__(f"{path}{f', row {row}' if row else ''}: {message}; {help}")


def read_tables(folder: Path, layers: int) -> MeasuredSteps:
    """Step times of a model with so many layers from the tables in a folder, for batches of equal histories.

    Raises TableError where a file, an operator or a number is missing.
    """
    dense = _curves(folder / "dense.csv", "tokens")
    sampling = _curves(folder / "per_sequence.csv", "sequences")
    missing = [op for op in (*PER_LAYER, *ONCE) if op not in dense and op not in OPTIONAL]
    missing += [op for op in SAMPLING if op not in sampling]
    if missing:
        raise TableError(folder, None, f"no times for {', '.join(missing)}", "profile all operators of a layer")
    attention = dict(_attention_rows(folder / "attention.csv"))
    if not attention:
        raise TableError(folder / "attention.csv", None, "no rows", "profile the attention of this model")
    counts = {op: layers * n for op, n in PER_LAYER.items() if op in dense} | dict.fromkeys(ONCE, 1)
    return MeasuredSteps(
        layers=layers,
        dense=_total({op: dense[op] for op in counts}, counts),
        per_sequence=_total({op: sampling[op] for op in SAMPLING}, dict.fromkeys(SAMPLING, 1)),
        attention=Attention(attention),
    )


def skew_default(meta: Path, tp: int) -> float | None:
    """The pooled share that a profile's `meta.yaml` states for this many GPUs; None where it switches the skew off."""
    text = meta.read_text("utf-8") if meta.is_file() else ""
    _, _, block = text.partition("\nskew_fit:")
    found = re.search(rf"\n +{tp}:\n(?: {{5,}}.*\n)*? +alpha_default: *([-+.\deE]+)", block)
    return float(found[1]) if found and re.match(r"\s+enabled: *true", block) else None


def read_skew(folder: Path, default: float) -> Skew:
    """The shares of `skew_fit.csv` for pure decode steps, by the bounds that its labels state (such as `n<=128`)."""
    path = folder / "skew_fit.csv"
    found: dict[tuple[float, float, float], float] = {}
    for number, row in _rows(path, ("pc", "n_label", "skew_rate_label", "kv_big_label", "kp_label", "alpha")):
        if row["pc"] == "0" and row["kp_label"] == "kp=0":
            labels = (row["n_label"], row["skew_rate_label"], row["kv_big_label"])
            key = tuple(_bound(path, number, label) for label in labels)
            found[key[0], key[1], key[2]] = _number(path, number, row, "alpha", low=-math.inf)
    axes = [sorted({key[i] for key in found}) for i in range(3)]
    buckets = {(axes[0].index(n), axes[1].index(s), axes[2].index(k)): v for (n, s, k), v in found.items()}
    counts, rates, longest = (tuple(axis) for axis in axes)
    return Skew(default, counts, rates, longest, buckets)


def _bound(path: Path, number: int, label: str) -> float:
    """The upper bound that a bucket's label states: 128 for `n<=128`, 0.15 for `sr<=15%`, 4096 for `kvB<=4k`."""
    found = re.fullmatch(r"\w+(<=|>|=)(\d+)([k%]?)", label)
    if not found:
        raise TableError(path, number, f"cannot read the bucket `{label}`", "write bounds as in `n<=128`")
    if found[1] == ">":
        return math.inf
    return int(found[2]) * {"": 1.0, "k": 1024.0, "%": 0.01}[found[3]]


def _curves(path: Path, key: str) -> dict[str, Curve]:
    points: dict[str, dict[int, float]] = {}
    for number, row in _rows(path, ("layer", key, "time_us")):
        count = int(_number(path, number, row, key))
        points.setdefault(row["layer"], {})[count] = _number(path, number, row, "time_us") * MICRO
    return {layer: _curve(found) for layer, found in points.items()}


def _curve(points: Mapping[int, float]) -> Curve:
    xs = sorted(points)
    return xs, [points[x] for x in xs]


def _total(curves: Mapping[str, Curve], counts: Mapping[str, int]) -> Curve:
    """The sum of curves on the union of their points, tabulated for every count up to the last one."""
    last = max(curve[0][-1] for curve in curves.values())
    xs = list(range(last + 1))
    return xs, [sum(counts[op] * at(curve, x) for op, curve in curves.items()) for x in xs]


def _attention_rows(path: Path) -> Iterator[tuple[tuple[int, int, int, int], float]]:
    keys = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    for number, row in _rows(path, (*keys, "time_us")):
        chunk, history, decodes, context = (int(_number(path, number, row, key)) for key in keys)
        yield (chunk, history, decodes, context), _number(path, number, row, "time_us") * MICRO


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with their line numbers."""
    if not path.is_file():
        raise TableError(path, None, "no such file", "profile the GPU, or give the folder that holds the tables")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [c for c in columns if c not in (reader.fieldnames or ())]:
            raise TableError(path, 1, f"no column {', '.join(missing)}", f"the columns are {', '.join(columns)}")
        for row in reader:
            yield reader.line_num, row


def _number(path: Path, number: int, row: Mapping[str, str], column: str, low: float = 0.0) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not low <= value < math.inf:
        raise TableError(path, number, f"`{row[column]}` in column {column}", "write a number that is not negative")
    return value
