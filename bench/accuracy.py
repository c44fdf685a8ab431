"""How far the cost model is from measurements: serving, training steps, memory, operators, and request traces.

    python bench/accuracy.py [--json] [--case PATH]... [--kv FORMAT] [--leave-out gpu|model|source]

A case is recognised by what is in it; the formats are those of the data under $HEXC_DATA, which count without --case:

    CSV with tpot_ms             serving points: model, gpu, backend, precision, tp, batch, isl, osl, ttft_ms, tpot_ms,
                                 one measured point a row (closed loop of `batch` clients)
    CSV with token_ms_median     prompt and token times by batch (Splitwise)
    JSON list                    training rows, as training_published/rows.json
    JSON with gemm               measured operators, as kernel_points.json
    JSON with rows               tensor-parallel rigs, as mixed_tp.json
    folder of a run              vLLM's timings of single requests, as vllm_ground_truth/runs/GPU/MODEL

Serving is judged twice.  The first table has the coefficients that hexc ships: these were fitted to the Llama-3.1 rows
on H100 and H200, so that it is in-sample on those.  In the second they are fitted again to a stated part (left of the
bar) by `hexc calibrate`'s bounded least squares and judged on another (right of it), from priors that have seen no row.
Rows that show no prefill interference stand apart and are never fitted.  Where a row does not say, the KV cache is
taken as fp8 for TensorRT-LLM's fp8 checkpoints and as 16-bit else; --kv overrides that.  Requests beyond what the KV
cache holds are taken to wait.

The training coefficients were fitted to the llm-foundry rows alone: rows of other sources are held out, and the table
says which.  --leave-out fits them again to all groups but one and scores that one.  Rows of what the model does not
know (a 500 W part, fp8 scaled by rows, torchtitan's context parallelism) stand apart and are never fitted.
"Held out" is said of the coefficients only: what the model counts, the priors, how each row's set-up is read and which
rows stand apart were settled with all rows in view.  The counts of memory were settled on the rows that score them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _kernel_scores
import _other_rows
import _serve_fit
import _serve_rows
import _train_scores
from _catalog import DATA, GPUS, MODELS, known
from _scores import Score, score
from _scores import show as scores_table
from _serve_rows import ServePoint
from _show import table

from hexdsl.costs.estimate import Estimate
from hexdsl.costs.predict import predict_tpot, predict_ttft

__all__ = ["DATA", "GPUS", "MODELS", "known"]

DEFAULTS = (
    "serving_measured/llama_h100_h200.csv",
    "training_published/rows.json",
    "kernel_points.json",
    "serving_measured/splitwise_a100.csv",
    "serving_measured/mixed_tp.json",
    "vllm_ground_truth/runs/RTXPRO6000/Llama-3.1-8B",
    "vllm_ground_truth/runs/RTX4090/Llama-3.1-8B",
)

FEWEST = 40
"""Serving points from which fits to a part of them mean something."""

Predict = Callable[[Any, float, Any], Estimate]


@dataclass(frozen=True)
class Section:
    """A table and how many rows it could not use."""

    title: str
    scores: Sequence[Score]
    skipped: int = 0
    runs: Sequence[Mapping[str, Any]] = ()


def kind_of(path: Path) -> str:
    """What a case holds."""
    if path.is_dir():
        return "runs"
    if path.suffix != ".json":
        with path.open(encoding="utf-8") as file:
            return "splitwise" if "token_ms_median" in file.readline() else "serving"
    found = json.loads(path.read_text("utf-8"))
    if isinstance(found, list):
        return "training"
    return "kernels" if "gemm" in found else "mixed"


def serving(paths: Sequence[Path], kv: str | None) -> list[Section]:
    """Shipped coefficients by group; then fits to a part of the rows, where there are enough."""
    points, skipped = _serve_rows.read(paths, kv)
    shipped = Section("serving, shipped coefficients", _shipped(points) if points else [], skipped)
    if sum(not p.odd for p in points) < FEWEST:
        return [shipped]
    return [shipped, Section("serving, fitted to | judged on", list(_serve_fit.table(points)))]


def _shipped(points: Sequence[ServePoint]) -> list[Score]:
    groups = {name: [p for p in points if p.group == name] for name in sorted({p.group for p in points})}
    ordinary = [p for p in points if not p.odd]
    groups["all"] = list(points)
    if 0 < len(ordinary) < len(points):
        groups[f"all but {_serve_rows.ODD}"] = ordinary
    metrics: tuple[tuple[str, Predict], ...] = (("tpot", predict_tpot), ("ttft", predict_ttft))
    return [_score(name, metric, found, f) for metric, f in metrics for name, found in groups.items()]


def _score(name: str, metric: str, points: Sequence[ServePoint], predict: Predict) -> Score:
    found = [predict(p.replica.line(), p.running, p.load) for p in points]
    return score(name, metric, [getattr(p, f"{metric}_s") for p in points], [(f.value, f.low, f.high) for f in found])


def training(paths: Sequence[Path], leave_out: str | None) -> Section:
    points, skipped = _train_scores.read(paths)
    found = _train_scores.left_out(points, leave_out) if leave_out else _train_scores.scores(points)
    return Section(f"training, leaving out one {leave_out}" if leave_out else "training", found, skipped)


def runs(paths: Sequence[Path]) -> Section:
    """Requests of real runs, simulated; `tables` are the GPU's measured operators, `analytic` the cost model alone."""
    from sim import accuracy  # it takes names from here

    return Section("request traces, errors in percent", (), runs=accuracy(list(paths)))


def sections(cases: Sequence[Path], kv: str | None, leave_out: str | None) -> list[Section]:
    """The tables of these cases."""
    kinds = {path: kind_of(path) for path in cases}
    by = {kind: [p for p in cases if kinds[p] == kind] for kind in sorted(set(kinds.values()))}
    trained = [training(by["training"], leave_out)] if "training" in by else []
    if leave_out:
        return trained
    found = serving(by["serving"], kv) if "serving" in by else []
    found += trained
    for kind, title, read in (
        ("splitwise", "Splitwise on A100: an engine of 2023 that its host limits", _other_rows.splitwise),
        ("mixed", "tensor-parallel rigs: ratio of two speeds", _other_rows.mixed_tp),
        ("kernels", "operators", _kernel_scores.read),
    ):
        found += [Section(title, *read(by[kind]))] if kind in by else []
    return [*found, runs(by["runs"])] if "runs" in by else found


def show(found: Sequence[Section]) -> None:
    for section in found:
        if section.scores:
            scores_table(section.title, section.scores)
        if section.runs:
            rows = section.runs
            print(f"{section.title}\n{table(list(rows[0]), [list(row.values()) for row in rows])}\n")
        if section.skipped:
            print(f"{section.skipped} rows skipped: not known to this benchmark, or without a counterpart\n")


def to_json(found: Sequence[Section]) -> dict[str, Any]:
    rows = [{"section": s.title, **asdict(x)} for s in found for x in s.scores]
    return {"skipped": sum(s.skipped for s in found), "scores": rows, "runs": [r for s in found for r in s.runs]}


def main() -> int:
    parser = argparse.ArgumentParser(description="error of the cost model against measurements")
    parser.add_argument("--json", action="store_true", help="write the scores as JSON")
    parser.add_argument("--case", action="append", type=Path, help="measured rows, or the folder of a run")
    parser.add_argument("--kv", help="format of the KV cache in every serving row")
    parser.add_argument(
        "--leave-out", choices=tuple(_train_scores.LEAVE_OUT), help="refit training without each of these"
    )
    args = parser.parse_args()
    cases = args.case or [DATA / name for name in DEFAULTS]
    for path in cases:
        if not path.exists():
            print(f"skipped: no measured points at {path}", file=sys.stderr)
    found = sections([p for p in cases if p.exists()], args.kv, args.leave_out)
    if args.json:
        print(json.dumps(to_json(found), indent=1))
    else:
        show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
