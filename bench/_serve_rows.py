"""Measured serving rows as operating points: the replica, its load, and what was measured."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from _catalog import arch, device, formats_of

from hexdsl.costs.memory import Engine
from hexdsl.costs.point import Replica, requests_in
from hexdsl.costs.serving import Load

ODD = "Llama-3.1-8B-Instruct-FP8"
"""Rows that show no prefill interference, as if all prompts had come first: another load pattern.  Never fitted."""


@dataclass(frozen=True)
class ServePoint:
    """A row; `running` are the requests of the batch whose KV cache has room, seconds as measured."""

    model: str
    gpu: str
    engine: str
    precision: str
    replica: Replica
    load: Load
    batch: float
    running: float
    tpot_s: float
    ttft_s: float

    @property
    def group(self) -> str:
        return " ".join((self.model, self.gpu, self.engine, self.precision or "-"))

    @property
    def odd(self) -> bool:
        return self.model == ODD

    @property
    def waits(self) -> bool:
        """Whether requests wait outside the engine, so that the time to the first token is that of a queue."""
        return self.batch > self.running


def read(paths: Iterable[Path], kv: str | None) -> tuple[list[ServePoint], int]:
    """The points of CSV files, and how many rows were not understood."""
    rows = [row for path in paths for row in csv.DictReader(path.open(encoding="utf-8"))]
    points = [p for row in rows if (p := point_of(row, kv))]
    return points, len(rows) - len(points)


def point_of(row: Mapping[str, str], kv: str | None) -> ServePoint | None:
    """The row as a point; None where its model, GPU or format is not known here."""
    model, found, formats = arch(row["model"]), device(row["gpu"]), formats_of(row, kv)
    if model is None or found is None or formats is None:
        return None
    gpu, link = found
    replica = Replica(model, gpu, formats, int(row["tp"]), int(row.get("pp") or 1), link)
    load = Load(float(row["isl"]), max(1.0, float(row["osl"])))
    return ServePoint(
        model=row["model"].rpartition("/")[2],
        gpu=row["gpu"],
        engine=row["backend"],
        precision=row.get("precision") or row.get("gemm_quant") or "",
        replica=replica,
        load=load,
        batch=float(row["batch"]),
        running=_running(replica, load, float(row["batch"])),
        tpot_s=float(row["tpot_ms"]) / 1e3,
        ttft_s=float(row["ttft_ms"]) / 1e3,
    )


def _running(replica: Replica, load: Load, batch: float) -> float:
    """The requests that the KV cache holds at their mean context."""
    context = float(load.context)
    room = min(requests_in(replica, part, context, Engine(max_batch=1)) for part in replica.slices)
    return max(1.0, min(batch, room))
