"""Any spec gives a plan that nothing is wrong with, or a refusal with a code: never anything else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from serve_cases import Case, wide_case
from serve_checks import faults_in

from hexdsl.ir.diagnostic import LimitError, NoPlanError
from hexdsl.ir.plan import Plan
from hexdsl.passes.serve.verify import faults_of


@given(st.integers(0, 10**9))
@settings(max_examples=120)
def test_every_plan_is_sound_and_every_refusal_has_a_code(seed: int) -> None:
    case = wide_case(seed)
    try:
        plan = case.plan()
    except (NoPlanError, LimitError) as error:
        refused = error.diagnostics
    else:
        check_plan(plan)
        return
    assert {d.code for d in refused} <= {"P001", "P002", "P004", "P006", "P009"}
    assert all(d.message for d in refused)


def check_plan(plan: Plan) -> None:
    """Sound by both verifiers, also when read back from JSON."""
    assert not list(faults_of(plan))
    assert not list(faults_in(plan))
    check_certificate(plan)
    assert not list(faults_of(Plan.model_validate(plan.model_dump(mode="json"))))


def check_certificate(plan: Plan) -> None:
    """The bound is on the right side, and the gap is the distance to it."""
    found = plan.certificates[0]
    sign = 1 if found.goal.startswith("maximize") else -1
    assert sign * found.objective <= sign * found.bound + 1e-6 * abs(found.bound)
    if found.gap < 1:
        largest = max(abs(found.objective), abs(found.bound), 1e-12)
        assert abs(found.gap - abs(found.objective - found.bound) / largest) < 1e-6
    assert not found.exact or found.gap == 0


def test_cases_reach_plans_and_refusals() -> None:
    """The generator is worth its time: it makes pipelines, several replicas, large inventories and refusals."""
    seen = {kind for seed in range(60) for kind in _kinds(wide_case(seed))}
    assert seen >= {"plan", "pipeline", "replicas", "large", "P001", "P002", "P009"}


def _kinds(case: Case) -> set[str]:
    try:
        plan = case.plan()
    except (NoPlanError, LimitError) as error:
        return {error.diagnostics[0].code}
    found = {"plan"}
    found |= {"pipeline"} if any(len(r.stages) > 1 for r in plan.replicas) else set()
    found |= {"replicas"} if len(plan.replicas) > 1 else set()
    return found | ({"large"} if sum(len(m.devices) for m in plan.machines) > 8 else set())
