"""What other plans come to, in words: every question has an answer, in the overview too."""

from __future__ import annotations

import pytest

from hexdsl.api import load_text
from hexdsl.ir.plan import Plan
from hexdsl.passes.base import run_passes
from hexdsl.passes.serve.answers import Answers, answers_to
from hexdsl.pipeline import SERVE, choose, start
from hexdsl.report.explain import WIDTH, UnknownSubject, explain_plan
from hexdsl.report.explain_worth import QUESTIONS

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster lab {
  nodes fast { gpus = 2 * H100, price = $2.90/gpu/h }
  nodes wide { count = 2, gpus = 1 * A6000, price = $0.49/gpu/h }
  nodes tiny { gpus = 1 * tiny_gpu, price = $0.10/gpu/h }
  fast <-> wide { bandwidth = 100Gb/s, latency = 50us }
}
gpu tiny_gpu { memory = 8GB, bandwidth = 300GB/s, bf16 = 30TFLOP/s }
workload chat { arrivals = poisson(RATE), prompt = 2000tok, output = 200tok }
serve s {
  model = llama8b
  on = lab
  workload = chat
  p95(ttft) <= 500ms
  p95(tpot) <= 40ms
  cost <= $7/h
  PHASE
  GOAL
}
"""


def plan_of(rate: str = "1000req/s", phase: str = "phase prefill {}", goal: str = "maximize goodput") -> Plan:
    text = SPEC.replace("RATE", rate).replace("PHASE", phase).replace("GOAL", goal)
    spec = load_text(text).spec
    passes = SERVE[: [p.name for p in SERVE].index("verify") + 1]
    return run_passes(passes, start(spec, choose(spec, None)), lambda *_: None)


def words(answers: Answers, what: str | None) -> str:
    return " ".join(explain_plan(answers.plan, what, answers).split())


@pytest.fixture(scope="module")
def flooded() -> Answers:
    """More arrives than can be served."""
    return Answers(plan_of())


@pytest.fixture(scope="module")
def met() -> Answers:
    """All that arrives is served at least cost."""
    return Answers(plan_of("2req/s", "", "minimize cost"))


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("bottleneck", ["can pass through this plan", "Capacities on the way", "arrivals: 1000req/s", "sets it"]),
        ("worth", ["maximize goodput: now", "One more machine", "fast (2 H100)", "better", ": cost <= $7.70/h"]),
        ("phases", ["maximize goodput:", "at most", "decoding"]),
        ("second", ["Best: ", "Second best, of plans with other replicas:"]),
        ("idle", ["tiny: 1 of 1 tiny_gpu unused; together they have room for", "are missing"]),
    ],
)
def test_each_question_is_answered(flooded: Answers, what: str, expected: list[str]) -> None:
    said = words(flooded, what)
    assert [text for text in expected if text not in said] == []


def test_a_load_that_is_met(met: Answers) -> None:
    assert "no more requests arrive" in words(met, "bottleneck")
    assert "All requests that arrive are served without them." in words(met, "idle")
    assert "The spec names no phases" in words(met, "phases")
    assert "the best plan then comes to $" in words(met, "phases")
    assert "minimize cost: now $" in words(met, "worth")


def test_goodput_that_is_met_needs_nothing_more() -> None:
    answers = Answers(plan_of("2req/s"))
    assert "nothing more would serve more of them" in words(answers, "worth")


def test_the_overview_has_all_of_it(flooded: Answers) -> None:
    text = explain_plan(flooded.plan, None, flooded)
    for title in ("What bounds the rate", "What more would be worth", "What was second best", "Why GPUs are idle"):
        assert f"\n{title}\n" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert set(flooded.found) == set(QUESTIONS)


def test_only_what_is_asked_is_searched_for() -> None:
    answers = Answers(plan_of())
    explain_plan(answers.plan, "bottleneck", answers)
    assert list(answers.found) == ["bottleneck"]


def test_answers_are_the_same_twice(flooded: Answers) -> None:
    again = Answers(plan_of())
    for what in QUESTIONS:
        assert words(again, what) == words(flooded, what)


def test_a_question_that_is_misspelt(flooded: Answers) -> None:
    with pytest.raises(UnknownSubject, match="did you mean `bottleneck`"):
        explain_plan(flooded.plan, "botleneck", flooded)


def test_a_plan_without_replicas_has_no_answers() -> None:
    assert answers_to(plan_of().with_(replicas=(), routes=(), handovers=()), lambda _: None) is None
