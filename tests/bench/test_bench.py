"""Every benchmark still runs, on little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPTS = sorted(p.name for p in BENCH.glob("[!_]*.py"))
PATIENCE_S = 240


def bench(script: str, *argv: str | Path) -> str:
    done = subprocess.run([sys.executable, BENCH / script, *argv], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(script: str, *argv: str | Path) -> list[dict[str, Any]]:
    found = json.loads(bench(script, *argv, "--json"))
    assert found["machine"]
    return list(found["rows"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script: str) -> None:
    assert "usage" in bench(script, "--help")


def test_start() -> None:
    found = rows("start.py", "--runs", "1", "--case", BENCH.parent / "specs" / "serve" / "quickstart.hex")
    assert [row["name"] for row in found][:3] == [
        "check, 200 lines, cold",
        "check, 200 lines, warm",
        "compile, quickstart",
    ]
    assert len(found) == 5
    assert all(0 < row["median_s"] <= row["worst_s"] for row in found)
    assert all(row["cpu_s"] > 0 for row in found)
    assert {row["verdict"] for row in found if row["budget_s"]} <= {"within", "over"}


def test_start_checks_a_spec_of_200_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import start

    from hexdsl.api import load_text

    assert start.long_spec().count("\n") == 200
    assert len(load_text(start.long_spec()).spec.workflows) == 7


def test_fuzz() -> None:
    found = {row["outcome"]: row["inputs"] for row in rows("fuzz.py", "--count", "40", "--seed", "7")}
    assert sum(found.values()) == 40
    assert found["traceback"] == 0


def test_real(tmp_path: Path) -> None:
    from hexdsl.runtime.tiny import make

    found = rows("real.py", "--only", "parity-2", "--only", "flood", "--case", make(tmp_path / "tiny"))
    assert [row["result"] for row in found] == ["ok", "ok"], found


def test_real_tells_why_it_skips(tmp_path: Path) -> None:
    assert rows("real.py", "--only", "parity-1", "--case", tmp_path)[0]["result"] == "skipped"


def test_tables() -> None:
    out = bench("start.py", "--runs", "1")
    assert out.startswith("name")
    assert "CPUs" in out.splitlines()[-1]
