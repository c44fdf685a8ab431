"""Explanations of a plan and of its parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hexdsl.ir.plan import Plan
from hexdsl.report.explain import WIDTH, UnknownSubject, explain_plan, subjects

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["mixed", "quickstart"])
def test_the_explanation_of_a_plan(
    name: str, request: pytest.FixtureRequest, golden: Callable[[Path, str], None]
) -> None:
    golden(GOLDEN / f"{name}-explain.txt", explain_plan(request.getfixturevalue(name)))


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (
            "tpot",
            ["time per output token", "48%  reading the weights (24ms), measured", "r2: mean(tpot) 43ms", "line 32"],
        ),
        ("p99(tpot)", ["time per output token"]),
        ("p95(ttft)", ["180ms to 410ms", "61%  prefill, measured"]),
        ("r1", ["2 stages on 6 GPUs", "layers 46..79 on 4 x A100 (middle-0:0-3)", "r1 layers: 46 + 34"]),
        ("R1", ["2 stages on 6 GPUs"]),
        ("big-0", ["r1 stage 1: layers 0..45 on big-0:4-5", "idle: big-0:6-7", "big <-> middle: 200Gb/s, 20us"]),
        ("gpu-01.lab", ["big-0: 8 x H100"]),
        ("big-0:5", ["layers 0..45 of r1 (stage 1), shared among 2 GPUs", "weights 41.3GB"]),
        ("big-0:7", ["idle: no replica uses it"]),
        ("middle", ["2 machines of 4 x A100", "middle-1: r2 stage 1"]),
        ("p95(tpot)  <=  50ms", ["50ms, limit 50ms: binds", "It binds"]),
        ("line 33", ["cost <= budget", "25% to spare"]),
        ("precision", ["H100: weights bf16"]),
        ("cost", ["r1: $12.20/h (40%), 2 x H100, 4 x A100", "line 33"]),
        ("routes", ["r0: 50% of the requests, 5.8req/s of at most 7.4req/s"]),
        ("groups", ["Gap 4.1%: heuristic", "r1 layers"]),
        ("replicas", ["replicas: 3; two idle H100"]),
        ("memory", ["1120GB on 14 GPUs in use", "weights 426GB (38%)"]),
        ("defaults", ["utilization = 90%"]),
        ("certificate", ["no plan comes above 12.1"]),
        ("rules", ["line 34: tp in [1, 2, 4]: holds"]),
        ("decisions", ["routes: 50% + 29% + 21%"]),
    ],
)
def test_each_subject_is_explained(mixed: Plan, what: str, expected: list[str]) -> None:
    words = " ".join(explain_plan(mixed, what).split())
    assert [text for text in expected if " ".join(text.split()) not in words] == []


def test_everything_that_can_be_asked_has_an_answer(mixed: Plan, quickstart: Plan) -> None:
    for plan in (mixed, quickstart):
        for name in subjects(plan):
            text = explain_plan(plan, name)
            assert text.strip()
            assert max(map(len, text.splitlines())) <= WIDTH


def test_an_unknown_subject_names_what_is_near(mixed: Plan) -> None:
    with pytest.raises(UnknownSubject, match=r"did you mean `tpot`"):
        explain_plan(mixed, "tpto")
    with pytest.raises(ValueError, match=r"one of `rules`, `memory`"):
        explain_plan(mixed, "zzz")


def test_ttft_is_never_one_number(mixed: Plan) -> None:
    assert not any("310ms" in explain_plan(mixed, what) for what in (None, "ttft", "rules", "line 31"))


def test_without_binding_rules_the_nearest_is_named(mixed: Plan) -> None:
    rules = tuple(r.with_(binding=False) for r in mixed.rules if r.line != 32)
    assert "the nearest is line 31" in explain_plan(mixed.with_(rules=rules))


def test_a_broken_rule_is_said_first(mixed: Plan) -> None:
    broken = mixed.with_(rules=(mixed.rules[2].with_(holds=False, value=50),))
    assert "line 33: cost <= budget: $50/h, limit $40/h: broken" in explain_plan(broken)
