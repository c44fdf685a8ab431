"""Training steps against published rows, where they are at hand, and the data file of coefficients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hexdsl.costs.training.coefficients import default_coefficients, table

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("HEXC_DATA", ROOT.parent / "shared" / "data"))
ROWS = DATA / "training_published" / "rows.json"

ROW = {"id": "own_1", "seq": 4096, "n_gpus": 8, "mbs": 1, "precision": "bf16", "tokens_per_s_per_gpu": 9000}


def scores(case: Path) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "bench" / "accuracy.py"), "--json", "--case", str(case)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


@pytest.mark.skipif(not ROWS.is_file(), reason=f"no published rows at {ROWS}")
def test_held_out_sources_meet_the_bar() -> None:
    found = scores(ROWS)
    assert found["skipped"] == 0
    step = {s["group"]: s for s in found["scores"] if s["metric"] == "step"}
    for source, rows in (("MLPerf", 3), ("Selene", 4)):
        group = step[f"{source}, all ordinary rows (held out)"]
        assert (group["n"], group["mape"] <= 8) == (rows, True)
    assert step["llm-foundry, all ordinary rows (fitted)"]["mape"] <= 8
    memory = [s for s in found["scores"] if s["metric"] == "memory"]
    assert sum(s["n"] for s in memory) == 12
    assert all(s["in_range"] == 100 for s in memory)


def test_own_rows_are_scored_and_unknown_ones_counted(tmp_path: Path) -> None:
    case = tmp_path / "own.json"
    rows = [{**ROW, "model": "Llama-2-7B", "gpu": "H100 SXM"}, {**ROW, "model": "Unheard-of-9B", "gpu": "H100 SXM"}]
    case.write_text(json.dumps(rows), encoding="utf-8")
    found = scores(case)
    assert found["skipped"] == 1
    assert {s["n"] for s in found["scores"]} == {1}


def test_every_coefficient_says_where_it_is_from() -> None:
    entries = table()["coefficients"]
    assert all(entry["source"] and entry["note"] for entry in entries.values())
    assert sum(entry["fitted"] for entry in entries.values()) == 4
    assert default_coefficients().eager == entries["eager"]["value"]
