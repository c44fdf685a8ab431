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


@pytest.mark.skipif(not POINTS.is_file(), reason=f"no measured points at {POINTS}")
def test_tpot_is_within_15_percent_on_average() -> None:
    found = json.loads(accuracy("--json").stdout)
    scores = {(s["group"], s["metric"]): s for s in found["scores"]}
    whole = scores["all", "tpot"]
    assert whole["n"] == 421
    assert whole["mape"] <= 15
    assert whole["median_ape"] <= 7
    assert abs(whole["bias"]) <= 5
    assert scores["Llama-3.1-70B h200_sxm vllm fp8", "ttft"]["mape"] <= 15


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
