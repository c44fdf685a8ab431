"""`hexc replan`: what it says, what it refuses, and that it writes a change whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_harness import Hexc

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster box { nodes a { count = 2, gpus = 1 * L4, nic = 10Gb/s } }
workload load { arrivals = poisson(3req/s), prompt = 200tok, output = 50tok }
serve s { model = llama1b, on = box, workload = load, replicas >= 2, maximize goodput
  target torch { launcher = local } }
"""


@pytest.fixture
def saved(tmp_path: Path, hexc: Hexc) -> Path:
    (tmp_path / "a.hex").write_text(SPEC)
    path = tmp_path / "plan.json"
    assert hexc("plan", tmp_path / "a.hex", "--save", path).code == 0
    return path


def test_a_loss_is_told_with_what_goes_on(saved: Path, hexc: Hexc) -> None:
    said = hexc("replan", saved, "--lost", "a-0", "--json")
    assert said.code == 0
    made = json.loads(said.out)
    fates = {m["replica"]: m["fate"] for m in made["replicas"]}
    assert sorted(fates.values()) == ["goes on", "lost"]
    assert made["plan"]["lost"] == ["a-0"]
    assert made["plan"]["simulation"]
    assert [rule["text"] for rule in made["broken"]] == ["replicas >= 2"]
    text = hexc("replan", saved, "--lost", "a-0").out
    assert "no replica moves or loads anything" in text
    assert "lost" in text


def test_more_machines_start_copies_and_a_plan_from_nothing_is_weighed(saved: Path, hexc: Hexc) -> None:
    made = json.loads(hexc("replan", saved, "--added", "a=1", "--rate", "100x", "--full", "--json").out)
    assert [m["fate"] for m in made["replicas"]].count("starts") == 1
    assert 0 < made["anew"]["served_req_per_s"] <= made["bound_req_per_s"] * (1 + 1e-6)
    assert made["arrivals_req_per_s"] == pytest.approx(300)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ((), "E004", "nothing has changed"),
        (("--lost", "a-9"), "E020", "a-1"),
        (("--lost", "a-0", "--lost", "a-1"), "P015", "every machine is lost"),
        (("--rate", "0x"), "E113", "leaves no load"),
        (("--rate", "fast"), "E112", "not a number"),
        (("--rate", "3s"), "E110", "a rate of requests"),
        (("--added", "b=1"), "E020", "`a`"),
        (("--added", "a"), "E004", "GROUP=NUMBER"),
        (("--added", "a=-1"), "E113", "no number of machines"),
        (("--lost", "a-0", "-o", "change"), "P015", "no bundle"),
    ],
)
def test_bad_changes_are_refused(
    saved: Path, hexc: Hexc, options: tuple[str, ...], code: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent)
    said = hexc("replan", saved, *options)
    assert said.code in (2, 3)
    assert code in said.err
    assert text in said.err
    assert not (saved.parent / "change").exists()


def test_what_is_no_plan_is_refused(tmp_path: Path, hexc: Hexc) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert "P013" in hexc("replan", tmp_path / "a.json", "--rate", "2x").err
    assert "P013" in hexc("replan", tmp_path / "missing.json", "--rate", "2x").err
