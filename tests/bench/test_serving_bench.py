"""The table of serving plans: its rows add up, on little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmarks by name."""
    monkeypatch.syspath_prepend(str(BENCH))

    def named(name: str) -> ModuleType:
        return __import__(name)

    return named


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCH / "serving.py", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_a_case_of_ones_own_gives_rows_with_ratio_and_verdict(tmp_path: Path) -> None:
    case = tmp_path / "pool.json"
    easy = {"layers": 36, "nodes": {"A100-80": 6}, "score": 2 / 3}
    case.write_text(json.dumps({"parallax": [easy, easy | {"score": 1.0}]}), "utf-8")
    done = run("--json", "--case", case)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["met"] for row in found["rows"]] == ["yes", "no"]
    assert [row["ratio"] for row in found["rows"]] == pytest.approx([1.0, 2 / 3], rel=1e-4)
    assert (found["bars_met"], found["bars_not_met"]) == (1, 1)


def test_what_is_no_case_is_said(tmp_path: Path) -> None:
    case = tmp_path / "other.json"
    case.write_text("{}", "utf-8")
    done = run("--case", case)
    assert done.returncode == 2
    assert "none of the known forms" in done.stderr


def test_the_interval_of_a_quotient_holds_that_of_both(bench: Any) -> None:
    figure = bench("_serving_plans").Figure
    ratio = figure(6.0, 0.6).over(figure(3.0, 0.3))
    assert ratio.mean == pytest.approx(2.0)
    assert ratio.half == pytest.approx(2.0 * 0.1 * 2**0.5)


def test_inventories_that_are_drawn_have_as_many_gpus_as_asked(bench: Any) -> None:
    from hexdsl.api import load_text
    from hexdsl.ir.spec.cluster import Nodes

    for seed in range(5):
        _, text = bench("_serving_sizes").drawn(48, seed)
        cluster = load_text(text, "drawn.hex").spec.workflows[0].on  # type: ignore[union-attr]
        groups = [n for n in cluster.nodes if isinstance(n, Nodes)]  # type: ignore[union-attr]
        assert sum(n.count * n.gpus.count for n in groups) == 48


def test_summary_is_over_the_bars_of_the_paper_only(bench: Any) -> None:
    row, hexgen2 = bench("_serving_rows").Row, bench("_serving_hexgen2")
    cells = [("hetero1 a", 2.0), ("hetero2 a", 1.0), ("hetero5 a", 9.0)]
    rows = [row("c", case, hexgen2.TO_HOME, value, 1.2, "", "") for case, value in cells]
    most, mean = hexgen2.summary(rows)
    assert (most.hexc, most.met) == (2.0, "yes")
    assert (mean.hexc, mean.met) == (1.5, "yes")
