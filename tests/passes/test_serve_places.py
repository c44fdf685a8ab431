"""Rules about where replicas lie and what they leave free: `kinds`, `spare`, and a phase's `on`."""

from __future__ import annotations

import pytest

from hexdsl.api import load_text, plan
from hexdsl.ir.diagnostic import NoPlanError, SpecError
from hexdsl.ir.plan import Plan

SPEC = """import "std/gpus.hex"
import "std/models.hex"
cluster c {{
  region eu {{}}
  region us {{}}
  nodes a {{ count = 1, gpus = 2 * A6000, nic = 100Gb/s, price = $0.8/gpu/h, region = eu }}
  nodes b {{ count = 2, gpus = 1 * L40S, nic = 100Gb/s, price = $1/gpu/h, region = us }}
  nodes d {{ count = 1, gpus = 2 * A100, nic = 100Gb/s, price = $2/gpu/h, region = eu }}
  eu <-> us {{ bandwidth = 10Gb/s, latency = 30ms }}
  a <-> d {{ bandwidth = 100Gb/s }}
}}
workload w {{ arrivals = poisson({rate}req/s), prompt = 1000tok, output = 200tok }}
serve s {{ model = {model}, on = c, workload = w
  {rules}
  {goal} }}
"""


def planned(rules: str, goal: str = "minimize cost", rate: float = 2.0, model: str = "llama8b") -> Plan:
    return plan(load_text(SPEC.format(rules=rules, goal=goal, rate=rate, model=model)))


def groups_by_role(made: Plan) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for replica in made.replicas:
        found.setdefault(replica.role, set()).update(made.machine(s.machine).group for s in replica.stages)
    return found


def test_a_phase_lies_where_it_may() -> None:
    for where, groups in (("us", {"b"}), ("[a, us]", {"a", "b"}), ("d", {"d"})):
        found = groups_by_role(planned(f"phase prefill {{}}\n  phase decode {{ on = {where} }}"))
        assert found.get("decode", set()) | found.get("both", set()) <= groups


def test_a_place_that_holds_no_replica_leaves_no_plan() -> None:
    with pytest.raises(NoPlanError):
        planned("phase prefill {}\n  phase decode { on = a }", model="llama70b")


def test_places_are_names_of_the_cluster() -> None:
    with pytest.raises(SpecError) as failed:
        planned("phase decode { on = asia }")
    assert [d.code for d in failed.value.diagnostics] == ["E130"]


@pytest.mark.parametrize(("rule", "allowed"), [("kinds <= 1", {1}), ("kinds >= 2", {2, 3})])
def test_kinds_of_gpu_within_a_replica(rule: str, allowed: set[int]) -> None:
    made = planned(rule, "maximize throughput", model="llama70b")
    assert {len({s.gpu for s in r.stages}) for r in made.replicas} <= allowed


def test_spare_capacity_is_kept_and_costs_no_less() -> None:
    plain, kept = planned("", rate=10), planned("spare >= 60%", rate=10)
    capacity = sum(r.capacity_req_per_s for r in kept.replicas)
    assert kept.served_req_per_s == pytest.approx(10)
    assert 1 - kept.served_req_per_s / capacity >= 0.6 * (1 - 1e-6)
    assert kept.cost_usd_per_h >= plain.cost_usd_per_h
    found = next(r for r in kept.rules if r.text == "spare >= 60%")
    assert found.holds
    assert found.value == pytest.approx(1 - 10 / capacity)


def test_too_much_spare_says_how_much_there_could_be() -> None:
    with pytest.raises(NoPlanError) as failed:
        planned("spare >= 99%", rate=30)
    assert "`spare` is at most" in (failed.value.diagnostics[0].help or "")


def test_spare_needs_a_load() -> None:
    text = SPEC.format(rules="spare >= 10%", goal="minimize cost", rate=1, model="llama8b").replace("workload = w", "")
    with pytest.raises(NoPlanError) as failed:
        plan(load_text(text))
    assert failed.value.diagnostics[0].code == "P004"
