"""The load played through a plan: figures, rules, determinism, and a load that is too much."""

from __future__ import annotations

from functools import reduce

import pytest

import hexdsl
from hexdsl.api import load_text
from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Margin, Plan, Simulation
from hexdsl.passes.serve.margins import held_by_simulation
from hexdsl.passes.serve.simulate import FEWEST, MOST, Size, simulated, size_of

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster box { nodes a { gpus = 2 * L4 } }
workload chat { arrivals = RATE, LENGTHS }
serve s {
  model = llama1b
  on = box
  workload = chat
  p95(ttft) <= LIMIT
  goodput >= 1req/s
  AIM
}
"""


EVEN = "prompt = 200tok, output = 50tok"
UNEVEN = "prompt = lognormal(median = 500, p95 = 4000), output = lognormal(median = 30, p95 = 400)"


def planned(
    rate: str = "poisson(4req/s)", limit: str = "2s", aim: str = "maximize goodput", lengths: str = EVEN
) -> Plan:
    words = {"RATE": rate, "LIMIT": limit, "AIM": aim, "LENGTHS": lengths}
    return hexdsl.plan(load_text(reduce(lambda text, w: text.replace(*w), words.items(), SPEC)))


def run(plan: Plan, size: Size) -> Simulation:
    found = simulated(plan, size).simulation
    assert found is not None
    return found


def test_an_easy_load_is_served_as_predicted() -> None:
    found = run(planned(), Size(400))
    assert all(rule.holds for rule in found.rules)
    figures = {f.metric: f for f in found.figures}
    assert 3.8 < figures["goodput"].mean <= 4.0
    assert figures["p50(ttft)"].mean <= figures["p95(ttft)"].mean <= figures["p99(ttft)"].mean
    assert figures["mean(latency)"].low <= figures["mean(latency)"].mean <= figures["mean(latency)"].high


def test_a_load_beyond_the_machines_breaks_the_rules() -> None:
    plan = planned(aim="minimize devices")
    beyond = plan.workflow.workload.with_(arrivals=plan.workflow.workload.arrivals.with_(rate=400.0))  # type: ignore[union-attr]
    found = run(plan.with_(workflow=plan.workflow.with_(workload=beyond)), Size(3000, seeds=1))
    assert not next(r for r in found.rules if "ttft" in r.text).holds
    assert not next(r for r in found.rules if "as they arrive" in r.text).holds
    assert found.notes


def test_what_a_plan_does_not_take_on_is_not_simulated() -> None:
    plan = planned("poisson(400req/s)")
    assert 1.0 <= sum(r.rate_req_per_s for r in plan.replicas) < 200.0
    assert plan.simulation is not None
    assert all(r.holds for r in plan.simulation.rules)


def test_margins_grow_until_the_simulation_breaks_no_rule() -> None:
    """Near its capacity a plan queues, so that the first search's optimum does not hold in the simulation."""
    plan = planned("poisson(400req/s)", limit="1s", lengths=UNEVEN)
    assert plan.simulation is not None
    assert all(r.holds for r in plan.simulation.rules)
    assert {m.of for m in plan.margins} == {"capacity"}
    free, found = plan.certificates[0].bound, plan.certificates[0].objective
    assert found < free
    assert any(d.what == "margins" for d in plan.decisions)


def broken(plan: Plan) -> Plan:
    """The plan as if its simulation had broken its rule about first tokens."""
    assert plan.simulation is not None
    rules = tuple(r.with_(holds="ttft" not in r.text) for r in plan.simulation.rules)
    return plan.with_(simulation=plan.simulation.with_(rules=rules))


def test_a_plan_that_no_margin_helps_is_refused_with_the_lines() -> None:
    plan = broken(planned())
    asked: list[tuple[Margin, ...]] = []

    def search(margins: tuple[Margin, ...]) -> Plan:
        asked.append(margins)
        return plan.with_(margins=margins)

    with pytest.raises(NoPlanError) as caught:
        held_by_simulation(search)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "P014"
    assert any("p95(ttft)" in note for note in diagnostic.notes)
    assert diagnostic.labels
    widest = [max((m.factor for m in margins), default=1.0) for margins in asked]
    assert widest == sorted(widest)
    assert len(set(widest)) > len(asked) / 2


def test_margins_shrink_again_once_they_hold() -> None:
    plan = planned()

    def search(margins: tuple[Margin, ...]) -> Plan:
        held = bool(margins) and margins[0].factor > 1.5
        return (plan if held else broken(plan)).with_(margins=margins)

    tried: list[float] = []
    found = held_by_simulation(lambda margins: tried.append(margins[0].factor if margins else 1.0) or search(margins))  # type: ignore[func-returns-value]
    assert 1.5 < found.margins[0].factor <= max(tried)
    assert min(tried) == 1.0


def test_equal_seeds_give_equal_simulations() -> None:
    plan = planned()
    assert simulated(plan, Size(100)).canonical() == simulated(plan, Size(100)).canonical()


def test_the_size_follows_the_load_within_bounds() -> None:
    plan = planned()
    assert FEWEST <= size_of(plan).requests <= MOST
    assert size_of(plan, 50, 2) == Size(50, 2)
