"""The load played through a plan: figures, rules, determinism, and a load that is too much."""

from __future__ import annotations

import hexdsl
from hexdsl.api import load_text
from hexdsl.ir.plan import Plan, Simulation
from hexdsl.passes.serve.simulate import FEWEST, MOST, Size, simulated, size_of

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster box { nodes a { gpus = 2 * L4 } }
workload chat { arrivals = RATE, prompt = 200tok, output = 50tok }
serve s {
  model = llama1b
  on = box
  workload = chat
  p95(ttft) <= LIMIT
  goodput >= 1req/s
  maximize goodput
}
"""


def planned(rate: str = "poisson(4req/s)", limit: str = "2s") -> Plan:
    return hexdsl.plan(load_text(SPEC.replace("RATE", rate).replace("LIMIT", limit)))


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
    plan = planned()
    beyond = planned("poisson(400req/s)", "100s")
    assert beyond.replicas
    overloaded = beyond.with_(workflow=plan.workflow.with_(workload=beyond.workflow.workload))
    found = run(overloaded, Size(3000, seeds=1))
    assert not next(r for r in found.rules if "ttft" in r.text).holds
    assert found.notes


def test_equal_seeds_give_equal_simulations() -> None:
    plan = planned()
    assert simulated(plan, Size(100)).canonical() == simulated(plan, Size(100)).canonical()


def test_the_size_follows_the_load_within_bounds() -> None:
    plan = planned()
    assert FEWEST <= size_of(plan).requests <= MOST
    assert size_of(plan, 50, 2) == Size(50, 2)
