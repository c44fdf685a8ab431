"""`hexc plan --pareto`: its table, its JSON, its page, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_harness import Hexc

from hexdsl.ir.front import Front


def test_the_frontier_is_printed_saved_and_drawn(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    saved, page = tmp_path / "front.json", tmp_path / "front.html"
    said = hexc("plan", spec, "--pareto", "--points", "4", "--save", saved, "--html", page)
    said.tidy()
    assert said.code == 0
    assert "throughput" in said.out
    assert f"wrote {page}" in said.err
    front = Front.model_validate(json.loads(saved.read_text()))
    assert 1 <= len(front.points) <= 4
    assert [a.name for a in front.axes] == ["devices", "throughput", "mean(tpot)"]  # no prices; the rule's latency
    assert page.read_text().count("<svg") == 3
    again = hexc("plan", spec, "--pareto", "--points", "4", "--json")
    assert again.out == saved.read_text()


def test_a_spec_without_a_plan_is_refused_as_by_plan(hexc: Hexc, spec: Path) -> None:
    plain = hexc("plan", spec, "-D", "slowest=1us")
    said = hexc("plan", spec, "-D", "slowest=1us", "--pareto")
    said.tidy()
    assert said.code == plain.code == 3
    assert said.err.splitlines()[0] == plain.err.splitlines()[0]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--pareto", "--points", "2"), "E113"),
        (("--points", "5"), "E004"),
        (("--html", "x.html"), "E004"),
        (("--pareto", "--print-after", "groups"), "E004"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    hexc: Hexc, spec: Path, options: tuple[str, ...], code: str
) -> None:
    said = hexc("plan", spec, *options)
    assert said.code == 2
    assert code in said.err
