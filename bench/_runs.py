"""Measured vLLM runs: their requests, what was measured, the engine's limits, and step times for a replay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import GPUS, MODELS, known
from numpy.typing import NDArray

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats
from hexdsl.costs.memory import Engine, Slice, max_tokens
from hexdsl.costs.network import all_reduce
from hexdsl.costs.serving import Stage, pipeline
from hexdsl.sim.analytic import AnalyticSteps
from hexdsl.sim.measured import MeasuredSteps
from hexdsl.sim.request import Request
from hexdsl.sim.spec import EngineSpec
from hexdsl.sim.tables import read_skew, read_tables, skew_default

FOLDERS = {"RTX4090": "rtx_4090", "RTXPRO6000": "rtx_pro_6000_server", "H100": "h100_sxm", "A100": "a100_sxm"}
"""What the folders of runs call the GPUs of `accuracy`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """A run; `measured` holds seconds by metric.  Step times are None where nothing is known to make them from."""

    gpu: str
    model: str
    requests: tuple[Request, ...]
    measured: Mapping[str, Floats]
    engine: EngineSpec
    tables: MeasuredSteps | None
    analytic: AnalyticSteps | None


def find_runs(folder: Path) -> list[Path]:
    """The folders of runs below this one."""
    return sorted({path.parent for path in folder.glob("**/*requests.jsonl")})


def read_run(folder: Path) -> Run:
    """A run from its folder, .../runs/GPU/MODEL; its profile is .../profiles/GPU/MODEL/FORMAT/tpN.

    Exits where a file is missing or the run has several replicas, which the files cannot tell apart.
    """
    meta = json.loads(_file(folder, "meta.json").read_text("utf-8"))
    lines = _file(folder, "requests.jsonl").read_text("utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines if line.strip()), key=lambda row: row["queued_ts"])
    asked, (gpu, model) = meta["engine_kwargs"], folder.resolve().parts[-2:]
    tp = asked.get("tensor_parallel_size", 1)
    if asked.get("data_parallel_size", 1) > 1:
        raise SystemExit(f"{folder}: runs of several replicas are not replayed")
    arch = MODELS.get(known(model, MODELS) or "")
    return Run(
        gpu=gpu,
        model=model + (f" tp{tp}" if tp > 1 else ""),
        requests=_requests(rows),
        measured=_measured(rows),
        engine=_engine(meta, arch, gpu, tp),
        tables=_tables(folder, arch, gpu, tp) if arch else None,
        analytic=_analytic(arch, gpu, tp) if arch and gpu in FOLDERS else None,
    )


def _file(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"*{name}"))
    if not found:
        raise SystemExit(f"{folder}: no {name}; a run has vllm_requests.jsonl and vllm_meta.json")
    return found[0]


def _requests(rows: list[dict[str, Any]]) -> tuple[Request, ...]:
    start = rows[0]["queued_ts"]
    return tuple(
        Request(i, row["queued_ts"] - start, row["input_toks"], row["output_toks"]) for i, row in enumerate(rows)
    )


def _measured(rows: list[dict[str, Any]]) -> dict[str, Floats]:
    queued, first, last, output = (
        np.array([row[name] for row in rows])
        for name in ("queued_ts", "first_token_ts", "last_token_ts", "output_toks")
    )
    return {
        "ttft_s": first - queued,
        "tpot_s": (last - first) / np.maximum(1, output - 1),
        "latency_s": last - queued,
    }


def _engine(meta: Mapping[str, Any], arch: Arch | None, gpu: str, tp: int) -> EngineSpec:
    """The engine's limits as recorded; vLLM's defaults, and the cost model's KV capacity, where they are not."""
    asked, cache, config = meta["engine_kwargs"], meta.get("kv_cache", {}), meta.get("resolved_config", {})
    scheduler = config.get("scheduler_config", {})
    seats, size = asked["max_num_seqs"], cache.get("block_size", 16)
    blocks = cache.get("num_gpu_blocks")
    if blocks is None and arch is not None and gpu in FOLDERS:
        device = GPUS[FOLDERS[gpu]][0]
        room = max_tokens(device, arch, Formats(), Slice(0, arch.layers, tp), Engine(max_batch=seats))
        blocks = int(room) // size
    return EngineSpec(
        blocks=blocks or 1_000_000,
        block_size=size,
        max_num_batched_tokens=asked["max_num_batched_tokens"],
        max_num_seqs=seats,
        max_model_len=asked.get("max_model_len"),
        prefix_caching=cache.get("enable_prefix_caching", True),
        chunked_prefill=scheduler.get("enable_chunked_prefill", True),
        reserve_full_prompt=scheduler.get("scheduler_reserve_full_isl", True),
        policy=scheduler.get("policy", "fcfs"),
    )


def _tables(folder: Path, arch: Arch, gpu: str, tp: int) -> MeasuredSteps | None:
    """Step times from the tables of this GPU and model; two all-reduces a layer come from the cost model."""
    profile = folder.resolve().parents[2] / "profiles" / gpu / folder.resolve().name
    found = sorted(profile.glob(f"*/tp{tp}/attention.csv"))
    if not found:
        return None
    tables = found[0].parent
    steps = read_tables(tables, arch.layers)
    default = skew_default(tables.parent / "meta.yaml", tp)
    steps = replace(steps, skew=read_skew(tables, default)) if default is not None else steps
    if tp == 1 or gpu not in FOLDERS:
        return steps
    device, link = GPUS[FOLDERS[gpu]]
    reduce = all_reduce((device,) * tp, link)
    sent = arch.hidden * Formats().wide_bytes
    return replace(steps, step_s=2 * arch.layers * reduce.alpha_s, token_s=2 * arch.layers * sent * reduce.s_per_byte)


def _analytic(arch: Arch, gpu: str, tp: int) -> AnalyticSteps:
    device, link = GPUS[FOLDERS[gpu]]
    return AnalyticSteps(pipeline([Stage((device,) * tp, arch.layers, link)], [], arch, Formats()))
