"""The accuracy benchmark on the measured points, where they are at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("HEXC_DATA", ROOT.parent / "shared" / "data"))
POINTS = DATA / "serving_measured" / "llama_h100_h200.csv"

ROW = "model,gpu,backend,precision,tp,batch,isl,osl,ttft_ms,tpot_ms\n"


def accuracy(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "accuracy.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


SHIPPED, REFITTED = "serving, shipped coefficients", "serving, fitted to | judged on"


@pytest.mark.skipif(not POINTS.is_file(), reason=f"no measured points at {POINTS}")
def test_serving_meets_the_bar_in_sample_and_where_models_gpus_or_engines_are_left_out() -> None:
    found = json.loads(accuracy("--json", "--case", str(POINTS)).stdout)
    scores = {(s["section"], s["group"], s["metric"]): s for s in found["scores"]}
    whole = scores[SHIPPED, "all", "tpot"]
    assert whole["n"] == 421
    assert whole["mape"] <= 15
    assert whole["median_ape"] <= 7
    assert abs(whole["bias"]) <= 5
    assert scores[SHIPPED, "Llama-3.1-70B h200_sxm vllm fp8", "ttft"]["mape"] <= 15
    assert scores[SHIPPED, "all but Llama-3.1-8B-Instruct-FP8", "ttft"]["in_range"] >= 88
    for kind in ("model", "GPU", "engine"):
        left_out = scores[REFITTED, f"each {kind} left out in turn | that {kind}", "tpot"]
        assert (left_out["n"], left_out["mape"] <= 15, left_out["median_ape"] <= 10) == (400, True, True)
        assert abs(left_out["bias"]) <= 6


RUNS = DATA / "vllm_ground_truth" / "runs"


@pytest.mark.skipif(not RUNS.is_dir(), reason=f"no runs at {RUNS}")
def test_a_folder_of_a_run_is_a_case() -> None:
    found = json.loads(accuracy("--json", "--case", str(RUNS / "RTX4090" / "Llama-3.1-8B")).stdout)
    assert {(r["times"], r["metric"]) for r in found["runs"]} == {
        (t, m) for t in ("tables", "analytic") for m in ("ttft", "tpot", "latency")
    }


def test_operators_and_prompt_phases_are_cases_too(tmp_path: Path) -> None:
    kernels, phases = tmp_path / "kernels.json", tmp_path / "phases.csv"
    point = {"system": "h100_sxm", "dtype": "bfloat16", "m": 16, "n": 8192, "k": 8192, "latency_ms": 0.05}
    kernels.write_text(json.dumps({"gemm": [point, {**point, "system": "unheard_of"}]}), encoding="utf-8")
    header = "model,gpu,tp,prompt,batch,out_tokens,prompt_ms_median,token_ms_median\n"
    phases.write_text(header + "llama2-70b,a100-80gb,8,512,1,128,94,45\n", encoding="utf-8")
    found = json.loads(accuracy("--json", "--case", str(kernels), "--case", str(phases)).stdout)
    assert found["skipped"] == 1
    assert [(s["metric"], s["n"]) for s in found["scores"]] == [("token", 1), ("prompt", 1), ("time", 1)]
    assert found["scores"][-1]["mape"] < 30


def test_own_points_are_scored_and_unknown_ones_counted(tmp_path: Path) -> None:
    case = tmp_path / "own.csv"
    points = ("Llama-3.1-8B,a100_sxm,vllm,,1,8,1000,100,90,14.0", "Unheard-of-9B,a100_sxm,vllm,,1,8,1000,100,90,14.0")
    case.write_text(ROW + "\n".join(points) + "\n", encoding="utf-8")
    found = json.loads(accuracy("--json", "--case", str(case)).stdout)
    assert found["skipped"] == 1
    assert [(s["metric"], s["n"]) for s in found["scores"] if s["group"] == "all"] == [("tpot", 1), ("ttft", 1)]


def test_absent_points_are_skipped_with_a_reason(tmp_path: Path) -> None:
    ran = accuracy("--case", str(tmp_path / "none.csv"))
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "no measured points" in ran.stderr
