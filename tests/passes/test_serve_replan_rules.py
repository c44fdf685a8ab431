"""Light re-plans that cannot keep every rule: the others still hold."""

from __future__ import annotations

import pytest

from hexdsl.api import load_text, plan
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.inventory import machines_left
from hexdsl.passes.serve.replan import replan

SPEC = """import "std/gpus.hex"
import "std/models.hex"
cluster c {{ nodes a {{ count = 3, gpus = 1 * L4, nic = 10Gb/s }} }}
workload w {{ arrivals = poisson({rate}req/s), prompt = 200tok, output = 50tok }}
serve s {{ model = llama1b, on = c, workload = w
  {rules}
  maximize goodput }}
"""


def planned(rate: int, *rules: str) -> Plan:
    return plan(load_text(SPEC.format(rate=rate, rules="\n  ".join(rules))))


def changed(before: Plan, *rules: str, lost: tuple[str, ...] = ()) -> Plan:
    """The plan without replicas, less what is lost, and under other rules where some are given."""
    serve = before.workflow
    if rules:
        (other,) = load_text(SPEC.format(rate=30, rules="\n  ".join(rules))).spec.workflows
        assert isinstance(serve, Serve)
        assert isinstance(other, Serve)
        serve = serve.with_(rules=other.rules)
    now = before.with_(workflow=serve, lost=lost, replicas=(), routes=(), handovers=(), certificates=(), decisions=())
    return now.with_(machines=machines_left(now))


def test_a_total_that_cannot_be_kept_leaves_latencies_as_they_are() -> None:
    before = planned(100, "replicas >= 3", "p95(tpot) <= 25ms")
    made = replan(before, changed(before, lost=("a-0",)))
    assert [rule.text for rule in made.broken] == ["replicas >= 3"]
    assert "the user's rules hold" not in made.plan.verified
    assert 0 < made.served_after_req_per_s < before.served_req_per_s


@pytest.mark.parametrize("order", [1, -1])
def test_a_latency_that_cannot_be_kept_leaves_others_as_they_are(order: int) -> None:
    before = planned(30, "p95(tpot) <= 25ms")
    rules = ("p95(tpot) <= 25ms", "p95(ttft) <= 1ms")[::order]
    made = replan(before, changed(before, *rules))
    assert [rule.text for rule in made.broken] == ["p95(ttft) <= 1ms"]
    assert made.served_after_req_per_s == pytest.approx(30)


def test_a_latency_and_a_total_that_cannot_be_kept_are_both_told() -> None:
    before = planned(30, "p95(tpot) <= 25ms")
    rules = ("p95(tpot) <= 25ms", "p95(ttft) <= 1ms", "replicas >= 3")
    made = replan(before, changed(before, *rules, lost=("a-1",)))
    assert {rule.text for rule in made.broken} == {"p95(ttft) <= 1ms", "replicas >= 3"}
