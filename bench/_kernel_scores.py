"""Measured operators beside what the cost model takes for them: products, attention and all-reduces.

The shares of the peaks that hexc ships are medians over these very points (but the memory shares of H100 and H200), so
that this is no test of them.  It shows what one share for all sizes leaves: errors of single operators.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from _catalog import QUANT, device
from _scores import NO_RANGE, Score, score

from hexdsl.costs.efficiency import efficiency_of
from hexdsl.costs.gpu import BYTES_PER_VALUE, SCALE_BYTES, Gpu, Link
from hexdsl.costs.network import all_reduce
from hexdsl.costs.overheads import DEFAULT_OVERHEADS
from hexdsl.costs.stage import together

Row = Mapping[str, Any]

LAUNCH_S = DEFAULT_OVERHEADS.layer_s / 10
"""A layer's overhead, spread over its ten kernels."""

HALF = 2.0
"""Bytes of a 16-bit value."""


def _bytes(name: str) -> float:
    group = {"int4": 128, "fp4": 16}.get(name)
    return BYTES_PER_VALUE[name] + (SCALE_BYTES[name] / group if group else 0.0)


def _gemm(row: Row, gpu: Gpu, _: Link) -> float:
    weights, compute = QUANT[row["dtype"]]
    eff, (m, n, k) = efficiency_of(gpu.kind), (float(row[x]) for x in "mnk")
    read = n * k * _bytes(weights) / (gpu.bandwidth * eff.weights_at(weights)[0])
    return LAUNCH_S + float(together(read, 2 * m * n * k / (gpu.flops[compute] * eff.gemm_at(compute)[0])))


def _prefill(row: Row, gpu: Gpu, _: Link) -> float:
    flops = 2.0 * row["batch"] * row["heads"] * row["head_dim"] * row["seq"] ** 2
    return LAUNCH_S + flops / (gpu.flops["bf16"] * float(efficiency_of(gpu.kind).attention_at(row["seq"])))


def _decode(row: Row, gpu: Gpu, _: Link) -> float:
    read = 2.0 * row["batch"] * row["kv_heads"] * row["head_dim"] * row["kv_len"] * HALF
    return LAUNCH_S + read / (gpu.bandwidth * efficiency_of(gpu.kind).kv)


def _reduce(row: Row, gpu: Gpu, link: Link) -> float:
    size = row["bytes"] if "bytes" in row else HALF * row["msg_elems"]
    return float(all_reduce((gpu,) * row["num_gpus"], link).seconds(size))


OPERATORS: Mapping[str, tuple[str, Callable[[Row, Gpu, Link], float]]] = {
    "gemm": ("product", _gemm),
    "ctx_attention": ("prefill attention", _prefill),
    "gen_attention": ("decode attention", _decode),
    "nccl": ("NCCL all-reduce", _reduce),
    "allreduce": ("vLLM's own all-reduce", _reduce),
}
"""What the list of a file holds, and how the cost model prices one."""


def read(paths: Iterable[Path]) -> tuple[list[Score], int]:
    """Scores by operator, GPU and format, and how many points were not understood."""
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    skipped = 0
    for operator, row in (found for path in paths for found in _rows(path)):
        at, name = device(row["system"]), OPERATORS[operator][0]
        if at is None or not _priced(row, at[0]):
            skipped += 1
            continue
        group = " ".join((name, row["system"], row.get("dtype", "")))
        groups[group.strip()].append((row["latency_ms"] * 1e-3, OPERATORS[operator][1](row, *at)))
    return [_score(name, points) for name, points in sorted(groups.items())], skipped


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The points; of the all-reduces of one size only the quickest, which ran from a captured graph."""
    found = json.loads(path.read_text("utf-8"))
    for operator in OPERATORS:
        rows = [r for r in found.get(operator, ()) if r.get("op", "all_reduce") == "all_reduce"]
        if operator == "allreduce":
            rows.sort(key=lambda r: (r["system"], r["num_gpus"], r["msg_elems"], r["latency_ms"]))
            rows = list({(r["system"], r["num_gpus"], r["msg_elems"]): r for r in reversed(rows)}.values())
        yield from ((operator, row) for row in rows)


def _priced(row: Row, gpu: Gpu) -> bool:
    return row.get("dtype", "bf16") not in QUANT or bool(gpu.flops.get(QUANT[row.get("dtype", "bf16")][1]))


def _score(name: str, points: list[tuple[float, float]]) -> Score:
    return score(name, "time", [m for m, _ in points], [(value, *NO_RANGE) for _, value in points])
