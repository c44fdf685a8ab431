"""How far the simulator is from real vLLM runs, and how fast it is.

    python bench/sim.py [--json] [--case PATH]... [--skip accuracy|speed]

A case is the folder of a run (`vllm_requests.jsonl` and `vllm_meta.json`, as under vllm_ground_truth/runs) or a trace
for the speed table.  Without --case the runs and the Azure conversation trace under $HEXC_DATA are used.

Each run is simulated with the GPU's measured operator tables, where profiles/GPU/MODEL lies beside runs/ (`tables`),
and with the analytic cost model (`analytic`), which has seen neither.  Arrivals are the times at which the engine
queued the requests; of the prompts only the lengths are known, so that no request finds another's prefix in the cache.
Errors are in percent, of the simulated figure over the measured one.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _runs import Run, find_runs, read_run
from _show import machine, table
from accuracy import DATA, GPUS, MODELS

from hexdsl.costs.gpu import Formats
from hexdsl.costs.serving import Stage, pipeline
from hexdsl.sim.analytic import AnalyticSteps
from hexdsl.sim.result import Result
from hexdsl.sim.simulate import simulate
from hexdsl.sim.spec import Cluster, EngineSpec, ReplicaSpec, SimConfig
from hexdsl.sim.steps import StepTimes
from hexdsl.sim.trace import read_trace

STATS: Mapping[str, float | None] = {"mean": None, "p50": 50, "p90": 90, "p99": 99}
LIMITS = {"RTXPRO6000": {"mean": 5.0, "p99": 8.0}, "RTX4090": {"mean": 8.0, "p99": 10.0}}
"""Percent within which the errors of a run must lie."""

SPEED_CASE = DATA / "traces" / "azure_2023_conv.csv"
SKIPPING, EXACT = SimConfig(), SimConfig(max_jump=1)


def stat(values: np.ndarray, level: float | None) -> float:  # type: ignore[type-arg]
    return float(values.mean() if level is None else np.percentile(values, level))


def replay(run: Run, times: StepTimes, config: SimConfig) -> Result:
    return simulate(run.requests, Cluster((ReplicaSpec("engine", run.engine, times),)), config)


def error_rows(run: Run, kind: str, times: StepTimes) -> Iterator[dict[str, Any]]:
    """One row a metric."""
    result, exact = replay(run, times, SKIPPING), replay(run, times, EXACT)
    for metric, measured in run.measured.items():
        simulated = getattr(result, metric)
        errors = {s: round(100 * (stat(simulated, q) / stat(measured, q) - 1), 2) for s, q in STATS.items()}
        bound = LIMITS.get(run.gpu, {}) if kind == "tables" else {}
        verdict = "" if not bound else "within" if all(abs(errors[s]) <= b for s, b in bound.items()) else "over"
        apart = 100 * abs(simulated.mean() / getattr(exact, metric).mean() - 1)
        yield {
            "run": f"{run.gpu} {run.model}",
            "times": kind,
            "metric": metric.removesuffix("_s"),
            "measured_mean_s": round(float(measured.mean()), 4),
            **errors,
            "limits": " / ".join(f"{b:g}" for b in bound.values()),
            "verdict": verdict,
            "skipping_%": round(float(apart), 4),
        }


def accuracy(folders: list[Path]) -> list[dict[str, Any]]:
    rows = []
    for run in map(read_run, folders):
        kinds = {"tables": run.tables, "analytic": run.analytic}
        rows += [row for kind, times in kinds.items() if times for row in error_rows(run, kind, times)]
    return rows


def speed(path: Path, stages: int, config: SimConfig) -> dict[str, Any]:
    """Four A100 replicas of Llama-3.1-8B, of one stage or two; reading the trace counts."""
    gpu, link = GPUS["a100_sxm"]
    arch = MODELS["llama-3.1-8b"]
    begun, used = time.perf_counter(), time.process_time()
    requests = read_trace(path).requests
    parts = [Stage((gpu,), arch.layers // stages, link)] * stages
    times = AnalyticSteps(pipeline(parts, [link] * (stages - 1), arch, Formats()))
    cluster = Cluster(tuple(ReplicaSpec(f"r{i}", EngineSpec(blocks=25_000), times) for i in range(4)))
    result = simulate(requests, cluster, config)
    wall, cpu = time.perf_counter() - begun, time.process_time() - used
    return {
        "trace": path.name,
        "stages": stages,
        "skipping": "yes" if config.max_jump > 1 else "no",
        "requests": len(requests),
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "requests_per_cpu_s": round(len(requests) / cpu),
        "mean_latency_s": round(float(result.latency_s[result.done].mean()), 6),
        "peak_rss_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def speeds(paths: list[Path]) -> list[dict[str, Any]]:
    ways = ((1, SKIPPING), (2, SKIPPING), (1, EXACT))
    return [speed(path, stages, config) for path in paths for stages, config in ways]


def show(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        print(f"{title}\n{table(list(rows[0]), [list(row.values()) for row in rows])}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="error of the simulator against real runs, and its speed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--case", action="append", type=Path, help="folder of a run, or trace")
    parser.add_argument("--skip", choices=("accuracy", "speed"), help="leave out a table")
    args = parser.parse_args()
    cases = args.case or [*find_runs(DATA / "vllm_ground_truth" / "runs"), SPEED_CASE]
    if missing := [str(path) for path in cases if not path.exists()]:
        print(f"skipped: nothing at {', '.join(missing)}", file=sys.stderr)
    runs = [path for path in cases if path.is_dir() and args.skip != "accuracy"]
    traces = [path for path in cases if path.is_file() and args.skip != "speed"]
    tables = {"errors in percent": accuracy(runs), "speed": speeds(traces)}
    if args.json:
        print(json.dumps({"machine": machine(), **tables}, indent=1))
        return 0
    for title, rows in tables.items():
        show(title, rows)
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
