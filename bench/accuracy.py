"""How far the cost model is from measurements: TPOT and TTFT of serving, time and memory of training steps, by group.

    python bench/accuracy.py [--json] [--case FILE]... [--kv FORMAT] [--leave-out gpu|model|source]

A CSV case holds serving points, a JSON case training rows in the format of training_published/rows.json.

A serving case has the columns model, gpu, backend, precision, tp, batch, isl, osl, ttft_ms and tpot_ms, one measured
point a row (closed loop of `batch` clients).  Without --case the data under $HEXC_DATA are used.
The format of the KV cache is rarely recorded: TensorRT-LLM's fp8 checkpoints quantise it and are taken as fp8, all
others as 16-bit; --kv overrides that.  Requests beyond what the KV cache holds are taken to wait.

The training coefficients were fitted to the llm-foundry rows alone: rows of other sources are held out, and the table
says which.  --leave-out fits them again to all groups but one and scores that one.  Rows of what the model does not
know (a 500 W part, fp8 scaled by rows, torchtitan's context parallelism) stand apart and are never fitted.
"Held out" is said of the coefficients only: what the model counts, the priors, how each row's set-up is read and which
rows stand apart were settled with all rows in view.  The counts of memory were settled on the rows that score them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import _train_scores
from _scores import Score, score
from _scores import show as scores_table

from hexdsl.costs.arch import Arch, Experts
from hexdsl.costs.gpu import Formats, Gpu, Link
from hexdsl.costs.memory import Engine, Slice, max_tokens
from hexdsl.costs.predict import predict_tpot, predict_ttft
from hexdsl.costs.serving import Load, Stage, pipeline

DATA = Path(os.environ.get("HEXC_DATA", Path(__file__).parents[2] / "shared" / "data"))
DEFAULT_CASE = DATA / "serving_measured" / "llama_h100_h200.csv"
TRAINING_CASE = DATA / "training_published" / "rows.json"

MODELS = {
    "llama-3.1-8b": Arch(32, 4096, 32, 8, 128, 14336, 128256),
    "llama-3.1-70b": Arch(80, 8192, 64, 8, 128, 28672, 128256),
    "llama-3.1-405b": Arch(126, 16384, 128, 8, 128, 53248, 128256),
    "llama-2-70b": Arch(80, 8192, 64, 8, 128, 28672, 32000),
    "mistral-7b": Arch(32, 4096, 32, 8, 128, 14336, 32768),
    "mixtral-8x7b": Arch(32, 4096, 32, 8, 128, 14336, 32000, experts=Experts(8, 2, 14336)),
    "qwen2.5-7b": Arch(28, 3584, 28, 4, 128, 18944, 152064),
    "qwen2.5-32b": Arch(64, 5120, 40, 8, 128, 27648, 152064),
    "qwen2.5-72b": Arch(80, 8192, 64, 8, 128, 29568, 152064),
    "qwen3-8b": Arch(36, 4096, 32, 8, 128, 12288, 151936),
    "qwen3-32b": Arch(64, 5120, 64, 8, 128, 25600, 151936),
}

NVLINK3, NVLINK4, NVLINK5, PCIE4, PCIE5 = (Link(b) for b in (300e9, 450e9, 900e9, 32e9, 64e9))
GPUS: Mapping[str, tuple[Gpu, Link]] = {
    "a100_sxm": (Gpu("a100_sxm", 80e9, 2.039e12, {"bf16": 312e12, "int8": 624e12}), NVLINK3),
    "h100_sxm": (Gpu("h100_sxm", 80e9, 3.35e12, {"bf16": 989e12, "fp8": 1978e12}), NVLINK4),
    "h200_sxm": (Gpu("h200_sxm", 141e9, 4.8e12, {"bf16": 989e12, "fp8": 1978e12}), NVLINK4),
    "b200_sxm": (Gpu("b200_sxm", 180e9, 7.7e12, {"bf16": 2250e12, "fp8": 4500e12, "fp4": 9000e12}), NVLINK5),
    "l40s": (Gpu("l40s", 48e9, 864e9, {"bf16": 362e12, "fp8": 733e12}, usable_bytes=45e9), PCIE4),
    "rtx_4090": (Gpu("rtx_4090", 24e9, 1.008e12, {"bf16": 165.15e12, "fp8": 330.3e12}), PCIE4),
    "rtx_pro_6000_server": (
        Gpu("rtx_pro_6000_server", 95.6e9, 1.792e12, {"bf16": 467.8e12, "fp8": 935.6e12, "fp4": 1871e12}),
        PCIE5,
    ),
}


@dataclass(frozen=True)
class Point:
    """A measured row beside its prediction: value, low and high in ms."""

    group: str
    tpot: float
    ttft: float
    tpot_range: tuple[float, float, float]
    ttft_range: tuple[float, float, float]


def known(words: str, table: Iterable[str]) -> str | None:
    return next((name for name in sorted(table, key=len, reverse=True) if name in words.lower()), None)


def formats_of(row: Mapping[str, str], kv: str | None) -> Formats:
    precision = row.get("precision") or "bf16"
    quantised = precision == "fp8" and row["backend"] == "trtllm"
    return Formats(precision, precision, kv or row.get("kv") or ("fp8" if quantised else "bf16"))


def point_of(row: Mapping[str, str], kv: str | None) -> Point | None:
    """The row with its prediction; None where its model, GPU or precision is not known here."""
    model, gpu_name = known(row["model"], MODELS), known(row["gpu"], GPUS)
    if model is None or gpu_name is None or (row.get("precision") or "bf16") not in ("bf16", "fp16", "fp8"):
        return None
    arch, (gpu, link), formats, tp = MODELS[model], GPUS[gpu_name], formats_of(row, kv), int(row["tp"])
    load = Load(float(row["isl"]), float(row["osl"]))
    room = max_tokens(gpu, arch, formats, Slice(0, arch.layers, tp), Engine(max_batch=1))
    batch = max(1.0, min(float(row["batch"]), float(room / load.context)))
    line = pipeline([Stage((gpu,) * tp, arch.layers, link)], [], arch, formats)
    tpot, ttft = (f(line, batch, load) for f in (predict_tpot, predict_ttft))
    return Point(
        group=" ".join((row["model"].split("/")[-1], row["gpu"], row["backend"], row.get("precision") or "-")),
        tpot=float(row["tpot_ms"]),
        ttft=float(row["ttft_ms"]),
        tpot_range=(tpot.value * 1e3, tpot.low * 1e3, tpot.high * 1e3),
        ttft_range=(ttft.value * 1e3, ttft.low * 1e3, ttft.high * 1e3),
    )


def scores(points: list[Point]) -> list[Score]:
    groups = [*sorted({p.group for p in points}), "all"]
    return [
        _score(g, metric, [p for p in points if g in ("all", p.group)]) for metric in ("tpot", "ttft") for g in groups
    ]


def _score(group: str, metric: str, points: list[Point]) -> Score:
    return score(group, metric, [getattr(p, metric) for p in points], [getattr(p, f"{metric}_range") for p in points])


def read(paths: list[Path], kv: str | None) -> tuple[list[Point], int]:
    rows = [row for path in paths for row in csv.DictReader(path.open(encoding="utf-8"))]
    points = [p for row in rows if (p := point_of(row, kv))]
    return points, len(rows) - len(points)


@dataclass(frozen=True)
class Section:
    """A table and how many rows it could not use."""

    title: str
    scores: list[Score]
    skipped: int


def serving(paths: list[Path], kv: str | None) -> Section:
    points, skipped = read(paths, kv)
    return Section("serving", scores(points) if points else [], skipped)


def training(paths: list[Path], leave_out: str | None) -> Section:
    points, skipped = _train_scores.read(paths)
    found = _train_scores.left_out(points, leave_out) if leave_out else _train_scores.scores(points)
    return Section(f"training, leaving out one {leave_out}" if leave_out else "training", found, skipped)


def show(sections: list[Section]) -> None:
    for section in sections:
        scores_table(section.title, section.scores)
        if section.skipped:
            print(f"{section.skipped} rows skipped: model, GPU or precision not known to this benchmark\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="error of the cost model against measurements")
    parser.add_argument("--json", action="store_true", help="write the scores as JSON")
    parser.add_argument("--case", action="append", type=Path, help="CSV of serving points or JSON of training rows")
    parser.add_argument("--kv", help="format of the KV cache in every serving row")
    parser.add_argument(
        "--leave-out", choices=tuple(_train_scores.LEAVE_OUT), help="refit training without each of these"
    )
    args = parser.parse_args()
    cases = args.case or [DEFAULT_CASE, TRAINING_CASE]
    for path in cases:
        if not path.is_file():
            print(f"skipped: no measured points at {path}", file=sys.stderr)
    rows, points = ([p for p in cases if p.is_file() and (p.suffix == ".json") == kind] for kind in (True, False))
    sections = [serving(points, args.kv)] if points and not args.leave_out else []
    sections += [training(rows, args.leave_out)] if rows else []
    if args.json:
        skipped, found = sum(s.skipped for s in sections), [asdict(x) for s in sections for x in s.scores]
        print(json.dumps({"skipped": skipped, "scores": found}, indent=1))
    else:
        show(sections)
    return 0


if __name__ == "__main__":
    sys.exit(main())
