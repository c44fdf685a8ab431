"""Naming phases never makes a plan worse: which of two plans is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from serve_cases import planned

from hexdsl.api import load_text
from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.ir.plan import Margin, Plan, RuleCheck
from hexdsl.passes.serve.apart import apart_or_together
from hexdsl.passes.serve.margins import Search
from hexdsl.passes.serve.simulate import Size, simulated

SPEC = """
gpu core { memory = 300MB, reserve = 10MB, bandwidth = 400GB/s, bf16 = 40TFLOP/s }
cluster c { nodes a { count = 2, gpus = 1 * core, nic = 10Gb/s } }
model m { layers = 4, hidden = 1024, heads = 8, kv_heads = 4, ffn = 4096, vocab = 4_000, weights = bf16 }
workload w { prompt = 200tok, output = 40tok }
serve s {
  model = m, on = c, workload = w, max_batch = 8
  phase prefill {}
  phase decode {}
  mean(ttft) <= 900s
  maximize throughput
}
"""
Outcome = tuple[float, bool] | None
"""What a search comes to, and whether it holds in the simulation; None where there is no plan."""


@pytest.fixture(scope="module")
def base() -> Plan:
    return simulated(planned(load_text(SPEC).spec), Size(40, 1))


def searches(base: Plan, apart: list[Outcome], together: Outcome) -> Callable[[Plan], Search]:
    """Searches with these outcomes, those with phases apart one after the other as margins grow."""
    tried: list[tuple[Margin, ...]] = []

    def search_from(start: Plan) -> Search:
        def search(margins: tuple[Margin, ...]) -> Plan:
            if start.apart:
                tried.append(margins)
            outcome = apart[min(len(tried), len(apart)) - 1] if start.apart else together
            if outcome is None:
                raise NoPlanError([Diagnostic("P001", "none")])
            return made(base.with_(apart=start.apart, margins=margins), *outcome)

        return search

    return search_from


def made(plan: Plan, value: float, holds: bool) -> Plan:
    simulation = plan.simulation
    assert simulation is not None
    figures = tuple(f.with_(mean=value) if f.metric == "throughput" else f for f in simulation.figures)
    rule = RuleCheck(text="mean(ttft) <= 900s", line=1, value=1000.0, limit=900.0, holds=holds)
    certificate = plan.certificates[0].with_(objective=value, bound=200.0, gap=0.5)
    return plan.with_(
        simulation=simulation.with_(rules=(rule,), figures=figures),
        certificates=(certificate, *plan.certificates[1:]),
    )


def chosen(base: Plan, apart: list[Outcome], together: Outcome) -> Plan:
    return apart_or_together(base, searches(base, apart, together))


def test_a_plan_that_holds_at_once_is_taken(base: Plan) -> None:
    assert chosen(base, [(100.0, True)], None).apart


def test_the_better_of_two_that_hold_is_taken(base: Plan) -> None:
    assert chosen(base, [(120.0, False), (110.0, True)], (100.0, True)).apart
    assert not chosen(base, [(120.0, False), (90.0, True)], (100.0, True)).apart


def test_margins_do_not_grow_below_what_holds_already(base: Plan) -> None:
    plan = chosen(base, [(99.0, False), None], (100.0, True))
    assert not plan.apart
    assert plan.certificates[0].bound == 200.0
    assert any("can come to more" in d.reason for d in plan.decisions)


def test_where_no_plan_apart_holds_the_other_is_taken(base: Plan) -> None:
    assert not chosen(base, [None], (100.0, True)).apart
    assert not chosen(base, [(120.0, False), None], (100.0, True)).apart


def test_where_none_holds_the_first_refusal_is_told(base: Plan) -> None:
    with pytest.raises(NoPlanError) as refused:
        chosen(base, [(120.0, False), None], None)
    assert refused.value.diagnostics[0].code == "P014"
