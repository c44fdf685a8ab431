"""`hexc estimate --train`: what a training step comes to, for one strategy or for each row of a table."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from hexdsl.commands.base import Output, as_json
from hexdsl.commands.points import COMMAND_LINE, MAX_ROWS_BYTES, Names, gpu_in, link_of, placed, rounded
from hexdsl.costs.estimate import Estimate
from hexdsl.costs.gpu import Link
from hexdsl.costs.network import PCIE
from hexdsl.costs.rows import Row, each, read_csv
from hexdsl.costs.training.predict import TrainCost, train_step
from hexdsl.costs.training.strategy import Attention, Fabric, Kernels, Precision, Recompute, TrainStrategy
from hexdsl.ir.diagnostic import Diagnostic, SpecError, UsageError
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.lang.source import read_bytes
from hexdsl.passes.serve.adapter import arch_of, gpu_of

DEGREES = ("tp", "pp", "dp", "cp", "ep", "micro_batch", "accumulation", "interleave")
TRAIN_COLUMNS = ("model", "gpu", "precision", "seq", *DEGREES, "zero", "recompute", "attention", "node_gpus")
ZERO = ("0", "1", "2", "3")
LARGEST = 1_000_000
LONGEST = 10_000_000


@dataclass(frozen=True)
class TrainPoint:
    """A strategy for a model on a kind of GPU, and what it comes to."""

    label: str
    title: str
    strategy: TrainStrategy
    seq: int
    cost: TrainCost


def train_command(args: argparse.Namespace, names: Names) -> Output:
    """Prices training steps and prints them."""
    from hexdsl.report.training import steps_text, train_text

    given = {c: str(v) for c in TRAIN_COLUMNS if (v := getattr(args, c, None)) is not None}
    fabric = _Links(names, link_of(args.nic, "--nic") if args.nic else None)
    points = _in_file(args.rows, given, fabric) if args.rows else (_point(Row(COMMAND_LINE, given, "E004"), fabric),)
    if args.json:
        return Output(data=as_json(rounded({"format_version": "1.0", "steps": [to_json(p) for p in points]})))
    views = [(p.title, p.strategy, p.seq, p.cost) for p in points]
    text = steps_text(views, args.width) if args.rows else train_text(*views[0], args.width)
    large = [p.label for p in points if not p.cost.fits]
    more = f" and {len(large) - 1} more" if len(large) > 1 else ""
    return Output(data=text, talk=f"{large[0]}{more}: a rank needs more memory than its GPU has" if large else "")


@dataclass(frozen=True)
class _Links:
    names: Names
    nic: Link | None

    def fabric(self, gpu: Gpu, node_gpus: int) -> Fabric:
        inside = self.names.link or (Link(gpu.link / 2) if gpu.link else PCIE)
        return Fabric(inside, self.nic, node_gpus)


def _in_file(path: str, given: dict[str, str], links: _Links) -> tuple[TrainPoint, ...]:
    needed = [c for c in ("model", "gpu") if c not in given]
    rows = read_csv(read_bytes(Path(path), path, MAX_ROWS_BYTES), path, needed)
    return each(rows, lambda row: _point(row.over(given), links))


def _point(row: Row, links: _Links) -> TrainPoint:
    for column in ("model", "gpu"):
        row.text(column)
    try:
        return _priced(row, links)
    except SpecError as error:
        raise placed(error, row) from None
    except ValueError as error:
        raise UsageError([Diagnostic("P002", f"{row.place}: {error}")]) from None


def _priced(row: Row, links: _Links) -> TrainPoint:
    model, gpu = links.names.catalog.model(row.text("model")), gpu_in(row, links.names)
    strategy, seq, node = _strategy(row), row.whole("seq", 4096), row.whole("node_gpus", 8)
    fabric = links.fabric(gpu, node)
    if int(strategy.gpus) > node and fabric.outside is None:
        help_ = "give the network card of a GPU: `--nic 400Gb/s`"
        raise row.wrong(f"{int(strategy.gpus)} GPUs are more than the {node} of a machine", help_)
    if seq > LONGEST:
        raise row.wrong(f"`seq` is {seq}", f"at most {LONGEST} tokens")
    cost = train_step(arch_of(model), gpu_of(gpu), strategy, seq, fabric)
    return TrainPoint(row.place, f"{model.name} on {int(strategy.gpus)} {gpu.name}", strategy, seq, cost)


def _strategy(row: Row) -> TrainStrategy:
    degrees: dict[str, Any] = {name: row.whole(name, 1) for name in DEGREES}
    big = next((name for name, value in degrees.items() if value > LARGEST), None)
    if big is not None:
        raise row.wrong(f"`{big}` is {degrees[big]}", f"at most {LARGEST}")
    return TrainStrategy(
        **degrees,
        zero=int(row.word("zero", ZERO, "0")),
        recompute=cast(Recompute, row.word("recompute", get_args(Recompute), "none")),
        precision=cast(Precision, row.word("precision", get_args(Precision), "bf16")),
        sequence_parallel=degrees["tp"] > 1,
        kernels=Kernels(attention=cast(Attention, row.word("attention", get_args(Attention), "flash3"))),
    )


def to_json(point: TrainPoint) -> dict[str, Any]:
    """A priced strategy as JSON: seconds, bytes, shares."""
    cost, s = point.cost, point.strategy
    return {
        "point": point.label,
        "title": point.title,
        "strategy": {name: getattr(s, name) for name in (*DEGREES, "zero", "recompute", "precision")},
        "sequence_tokens": point.seq,
        "global_batch": int(s.global_batch),
        "gpus": int(s.gpus),
        "step_s": _range(cost.step),
        "tokens_per_s_per_gpu": cost.tokens_per_s / int(s.gpus),
        "mfu": cost.utilisation.mfu,
        "hfu": cost.utilisation.hfu,
        "peak_format": cost.utilisation.format,
        "fits": cost.fits,
        "room_bytes": cost.room,
        "memory_bytes": [{"stage": m.stage, **_range(m.need)} for m in cost.memory],
    }


def _range(found: Estimate) -> dict[str, Any]:
    terms = [{"name": t.name, "value": t.value, "provenance": t.provenance} for t in found.terms]
    return {"value": found.value, "low": found.low, "high": found.high, "terms": terms}
