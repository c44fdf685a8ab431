"""The simulator against real vLLM runs, where their records are at hand (`bench/sim.py` prints the whole table)."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("HEXC_DATA", ROOT.parent / "shared" / "data")) / "vllm_ground_truth"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`bench/sim.py` as a module."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    spec = importlib.util.spec_from_file_location("bench_sim", ROOT / "bench" / "sim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_sim", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not DATA.is_dir(), reason="no measured runs: set HEXC_DATA")
def test_measured_runs_are_reproduced(bench: ModuleType) -> None:
    rows = bench.accuracy(bench.find_runs(DATA / "runs"))
    judged = [row for row in rows if row["limits"]]
    assert len(judged) == 6
    assert all(row["verdict"] == "within" for row in judged), judged
    assert all(row["skipping_%"] <= 0.1 for row in rows)


def test_a_run_in_the_same_format_is_replayed(bench: ModuleType, tmp_path: Path) -> None:
    """A run without a profile, on a GPU of the cost model."""
    folder = tmp_path / "runs" / "H100" / "Llama-3.1-8B"
    folder.mkdir(parents=True)
    asked = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "max_model_len": None}
    (folder / "vllm_meta.json").write_text(json.dumps({"engine_kwargs": asked}))
    row = {"input_toks": 100, "output_toks": 11, "queued_ts": 5.0, "first_token_ts": 5.5, "last_token_ts": 6.5}
    (folder / "vllm_requests.jsonl").write_text(json.dumps(row) + "\n")
    run = bench.read_run(folder)
    assert run.measured["tpot_s"].tolist() == [0.1]
    assert run.tables is None
    found = {row["metric"]: row["measured_mean_s"] for row in bench.accuracy([folder])}
    assert found == {"ttft": 0.5, "tpot": 0.1, "latency": 1.5}


def test_the_speed_table_counts_requests(bench: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival,prompt,output\n" + "".join(f"{i},100,20\n" for i in range(50)))
    skipping, _, exact = bench.speeds([path])
    assert skipping["requests"] == exact["requests"] == 50
    assert skipping["mean_latency_s"] == pytest.approx(exact["mean_latency_s"], rel=1e-3)
