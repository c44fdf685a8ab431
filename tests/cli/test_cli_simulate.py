"""`hexc simulate`: its table, its JSON, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hexdsl.cli import main

SPECS = Path(__file__).parents[2] / "specs" / "serve"


def test_a_spec_is_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(SPECS / "quickstart.hex"), "--requests", "40", "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 runs of 40 requests" in out
    assert "latency" in out


def test_json_holds_every_figure_and_says_which_rule_broke(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["simulate", str(SPECS / "mixed.hex"), "--requests", "400", "--seeds", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert next(iter(found)) == "format_version"
    assert {"p95(ttft)", "goodput", "throughput"} <= {f["metric"] for f in found["figures"]}
    assert code == (0 if all(r["holds"] for r in found["rules"]) else 3)


@pytest.mark.parametrize("option", [("--requests", "3"), ("--seeds", "0")])
def test_sizes_out_of_range_are_refused(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(SPECS / "quickstart.hex"), *option]) == 2
    assert "E113" in capsys.readouterr().err
