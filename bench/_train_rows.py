"""Published training throughput as points: a row's model, GPUs and strategy, and what was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Gpu, Link
from hexdsl.costs.training.strategy import Fabric, Kernels, Precision, TrainStrategy

Row = Mapping[str, Any]


def _mpt(layers: int, hidden: int, heads: int) -> Arch:
    return Arch(layers, hidden, heads, heads, hidden // heads, 4 * hidden, 50368, tied=True, ffn_matrices=2)


def _gpt(layers: int, hidden: int, heads: int) -> Arch:
    return Arch(layers, hidden, heads, heads, hidden // heads, 4 * hidden, 51200, tied=True, ffn_matrices=2)


MODELS = {
    "mpt-125m": _mpt(12, 768, 12),
    "mpt-350m": _mpt(24, 1024, 16),
    "mpt-760m": _mpt(24, 1536, 12),
    "mpt-1b": _mpt(24, 2048, 16),
    "mpt-3b": _mpt(32, 2560, 20),
    "mpt-7b": _mpt(32, 4096, 32),
    "mpt-13b": _mpt(40, 5120, 40),
    "mpt-30b": _mpt(48, 7168, 56),
    "mpt-70b": _mpt(80, 8192, 64),
    "megatron-22b": _gpt(48, 6144, 64),
    "gpt3-175b": _gpt(96, 12288, 96),
    "llama-2-7b": Arch(32, 4096, 32, 32, 128, 11008, 32000),
    "llama-3-8b": Arch(32, 4096, 32, 8, 128, 14336, 128256),
    "llama-3.1-8b": Arch(32, 4096, 32, 8, 128, 14336, 128256),
    "llama-3.1-70b": Arch(80, 8192, 64, 8, 128, 28672, 128256),
    "llama-3.1-405b": Arch(126, 16384, 128, 8, 128, 53248, 128256),
}

_A100 = {"bf16": 312e12}
_H100 = {"bf16": 989e12, "fp8": 1978e12}
GPUS = {
    "a100_40gb": Gpu("a100_sxm_40gb", 40e9, 1.555e12, _A100),
    "a100": Gpu("a100_sxm", 80e9, 2.039e12, _A100),
    "h100_96gb": Gpu("h100_96gb_500w", 96e9, 2.4e12, _H100),
    "h100": Gpu("h100_sxm", 80e9, 3.35e12, _H100),
    "h200": Gpu("h200_sxm", 141e9, 4.8e12, _H100),
}
FABRICS = {"a100": Fabric(Link(300e9), Link(25e9, 5e-6)), "h": Fabric(Link(450e9), Link(50e9, 5e-6))}
"""DGX-like machines of 8: NVLink, and a 200 or 400 Gb/s NIC per GPU."""


@dataclass(frozen=True)
class TrainPoint:
    """A row: what was run, and what was measured (seconds of a step; GiB of the allocator's peak, where given)."""

    name: str
    source: str
    model: str
    gpu_name: str
    arch: Arch
    gpu: Gpu
    fabric: Fabric
    strategy: TrainStrategy
    seq: float
    step_s: float
    peak_gib: float | None
    note: str = ""


def point_of(row: Row) -> TrainPoint | None:
    """The row as a point; None where its model, GPU or format is not known here."""
    model, gpu_name = str(row["model"]).lower(), _gpu_of(str(row["gpu"]))
    if model not in MODELS or gpu_name is None:
        return None
    source = _source(row)
    strategy, seq = _strategy(row, source), float(row["seq"])
    return TrainPoint(
        name=str(row["id"]),
        source=source,
        model=model,
        gpu_name=gpu_name,
        arch=MODELS[model],
        gpu=GPUS[gpu_name],
        fabric=FABRICS["a100" if gpu_name.startswith("a100") else "h"],
        strategy=strategy,
        seq=seq,
        step_s=_step_s(row, strategy, seq),
        peak_gib=row.get("peak_mem_GiB"),
        note=_note(row),
    )


def _gpu_of(name: str) -> str | None:
    words = re.sub(r"[ \-]+", "_", name.lower())
    return next((key for key in GPUS if key in words), None)


def _source(row: Row) -> str:
    known = {"mlperf": "MLPerf", "selene": "Selene", "torchtitan": "torchtitan", "llmfoundry": "llm-foundry"}
    return known.get(str(row["id"]).split("_")[0], "other")


def _step_s(row: Row, strategy: TrainStrategy, seq: float) -> float:
    given = row.get("step_time_s_median") or row.get("iteration_time_s")
    if given:
        return float(given)
    return float(strategy.global_batch * seq / strategy.gpus / row["tokens_per_s_per_gpu"])


def _note(row: Row) -> str:
    """What the model does not know about a run: such rows are scored apart."""
    if "rowwise" in row["precision"]:
        return "500 W, fp8 rowwise"
    if row.get("cp", 1) > 1 and "torchtitan" in row["id"]:
        return "500 W, context parallel"
    return "500 W" if "500W" in row["gpu"] else ""


def _strategy(row: Row, source: str) -> TrainStrategy:
    tp, pp, cp = (int(row.get(name) or 1) for name in ("tp", "pp", "cp"))
    dp, mbs = int(row["n_gpus"]) // (tp * pp * cp), int(row["mbs"])
    batch = int(row.get("gbs") or dp * mbs)
    base = TrainStrategy(
        tp=tp, pp=pp, cp=cp, dp=dp, micro_batch=mbs, accumulation=batch // (dp * mbs), precision=_precision(row)
    )
    return {"MLPerf": _mlperf, "Selene": _selene, "torchtitan": _torchtitan}.get(source, _foundry)(row, base)


def _precision(row: Row) -> Precision:
    words = str(row["precision"]).lower()
    return "fp8" if "fp8" in words else "fp16" if "fp16" in words else "bf16"


def _mlperf(row: Row, base: TrainStrategy) -> TrainStrategy:
    kernels = Kernels("flash3", fused=True, overlap_tp=True)
    return replace(base, zero=1, interleave=int(row.get("vp") or 1), sequence_parallel=True, kernels=kernels)


def _selene(row: Row, base: TrainStrategy) -> TrainStrategy:
    """Interleaving of 3 as in table 3 of Korthikanti et al. 2022 for the model with a pipeline."""
    full = row["recompute"] == "full"
    return replace(
        base,
        interleave=3 if int(row["pp"]) > 1 else 1,
        recompute="full" if full else "selective",
        sequence_parallel=not full,
        gradient_bytes=4.0,
        kernels=Kernels("unfused", fused=True, dropout=True),
    )


def _torchtitan(row: Row, base: TrainStrategy) -> TrainStrategy:
    """Its selective checkpointing recomputes every second product; torch.compile took in the loss from 2025 on."""
    ways = str(row["parallelism"])
    later = "2025" in str(row["source"])
    kernels = Kernels("flash2", "compile" in ways or later, fused_loss=later, overlap_tp="async" in ways)
    return replace(
        base,
        zero=3,
        recompute="full" if row["act_ckpt"] == "full" else "ops",
        sequence_parallel=int(row.get("tp") or 1) > 1,
        gradient_bytes=4.0,
        kernels=kernels,
    )


def _foundry(row: Row, base: TrainStrategy) -> TrainStrategy:
    zero = 2 if "GRAD_OP" in str(row.get("parallelism")) else 3
    kernels = Kernels("flash1", fused=False)
    return replace(base, zero=zero, recompute="full" if row.get("act_ckpt") else "none", kernels=kernels)
