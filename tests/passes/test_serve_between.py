"""Links between phases that are heeded as they come to bind give what heeding all of them gives."""

from __future__ import annotations

import pytest

from hexdsl.api import load_text
from hexdsl.ir.plan import Plan
from hexdsl.passes.inventory import inventory
from hexdsl.passes.precision import precision
from hexdsl.passes.serve.between import between
from hexdsl.passes.serve.candidates import space_of
from hexdsl.passes.serve.decide import decide
from hexdsl.passes.serve.goals import aims_of
from hexdsl.passes.serve.problem import problem_of
from hexdsl.passes.serve.question import Question
from hexdsl.passes.serve.rules import rules_of
from hexdsl.pipeline import choose, start

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster lab {{
  nodes a {{ count = 2, gpus = 1 * H100, nic = {near} }}
  nodes b {{ count = 2, gpus = 1 * A6000, nic = {near} }}
  nodes c {{ count = 1, gpus = 2 * L40S, nic = {near} }}
  a <-> b {{ bandwidth = {far}, latency = 1ms }}
  a <-> c {{ bandwidth = {near}, latency = 50us }}
  b <-> c {{ bandwidth = {far}, latency = 1ms }}
}}
workload chat {{ prompt = 2000tok, output = 200tok }}
serve s {{
  model = llama8b, on = lab, workload = chat
  pp == 1
  phase prefill {{}}
  phase decode {{}}
  maximize throughput
}}
"""


def priced(near: str, far: str) -> Plan:
    """The plan of the spec as far as the search needs it."""
    spec = load_text(SPEC.format(near=near, far=far)).spec
    return precision(inventory(start(spec, choose(spec, None))))


def question_of(plan: Plan) -> Question:
    problem = problem_of(plan)
    return Question(space_of(problem, ()), rules_of(problem.serve), aims_of(problem.serve, problem))


def best(question: Question) -> float:
    """The best value with all links heeded."""
    aim = question.aims[0]
    found = question.optimum(question.space.meeting(question.rules), aim, aim.direction)
    assert found is not None
    return found.value


@pytest.mark.parametrize(("near", "far"), [("400Gb/s", "400Gb/s"), ("100Gb/s", "3Gb/s"), ("3Gb/s", "1Gb/s")])
def test_the_best_plan_is_that_of_all_links(near: str, far: str) -> None:
    plan = priced(near, far)
    question = question_of(plan)
    assert decide(question, plan.machines).value == pytest.approx(best(question), rel=1e-5)


def test_narrow_links_cost_something() -> None:
    wide, narrow = (best(question_of(priced(link, link))) for link in ("400Gb/s", "0.5Gb/s"))
    assert wide > narrow * 1.01


def test_places_whose_links_never_bind_are_one() -> None:
    question = question_of(priced("100Gb/s", "3Gb/s"))
    made = question.programme(question.space.meeting(question.rules))
    assert made is not None
    everything = between(question.space.problem, made.candidates)
    nothing = between(question.space.problem, made.candidates, frozenset())
    assert len(nothing.most) < len(everything.most)
    assert set(nothing.most.values()) == {float("inf")}
