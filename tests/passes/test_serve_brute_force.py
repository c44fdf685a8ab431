"""The planner against the enumeration of every plan."""

from __future__ import annotations

import pytest
from serve_brute import Brute
from serve_cases import small_case

from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.serve import Serve

SEEDS = 40


def outcome(seed: int, objective: str) -> tuple[Plan | None, Brute]:
    case = small_case(seed, objective, gpus=4 if objective == "mean" else 5)
    serve = case.load().spec.workflows[0]
    assert isinstance(serve, Serve)
    try:
        return case.plan(), Brute(serve)
    except NoPlanError:
        return None, Brute(serve)


def splits_matter(brute: Brute) -> bool:
    """Whether a latency is named that the quickest decoding split need not minimise."""
    return any(m.name != "tpot" for m in brute.named)


def check(plan: Plan | None, best: float | None, larger: bool, free: bool) -> bool:
    """Compares with the optimum; where splits matter (`free`) the optimum lies between the plan and its bound."""
    if plan is None or best is None:
        assert plan is None
        assert best is None or free
        return best is None
    found = plan.certificates[0]
    sign = 1 if larger else -1
    assert sign * found.objective <= sign * best * (1 + sign * 1e-6)
    assert sign * found.bound >= sign * best * (1 - sign * 1e-6)
    same = found.objective == pytest.approx(best, rel=1e-6)
    assert same or (free and not found.exact)
    return same


@pytest.mark.parametrize("objective", ["throughput", "goodput", "cost"])
def test_totals_are_optimal(objective: str) -> None:
    """The same optimum, and the same verdict where there is no plan."""
    same = 0
    for seed in range(SEEDS):
        plan, brute = outcome(seed, objective)
        best = {"throughput": brute.most_throughput, "goodput": brute.most_rate, "cost": brute.least_cost}[objective]()
        if best is not None and objective == "throughput":
            best *= float(brute.load.output)
        same += check(plan, best, objective != "cost", splits_matter(brute))
    assert same >= 0.95 * SEEDS


@pytest.mark.parametrize("objective", ["ttft", "tpot", "mean"])
def test_latencies_are_within_their_bound(objective: str) -> None:
    """The optimum at full load lies above the bound, and the plan (which may have load to spare) near or below it."""
    near = 0
    for seed in range(SEEDS):
        plan, brute = outcome(seed, objective)
        best = brute.least_mean() if objective == "mean" else brute.least_worst()
        if plan is None or best is None:
            assert plan is None
            assert best is None or splits_matter(brute)
            near += best is None
            continue
        found = plan.certificates[0]
        assert found.bound <= found.objective * (1 + 1e-9)
        assert found.bound <= best * (1 + 1e-6)
        assert found.objective <= best * (1.1 if splits_matter(brute) else 1 + 1e-6)
        near += found.objective <= best * (1 + 1e-6)
    assert near >= 0.9 * SEEDS


def test_a_second_objective_decides_among_equals() -> None:
    for seed in range(SEEDS):
        plan, brute = outcome(seed, "two")
        best = brute.fewest_devices_then_throughput()
        if best is None:
            assert plan is None
            continue
        if plan is None:
            assert splits_matter(brute)
            continue
        assert sum(len(r.devices) for r in plan.replicas) == best[0] or splits_matter(brute)
        throughput = sum(r.capacity_req_per_s for r in plan.replicas)
        assert throughput == pytest.approx(best[1], rel=3e-6) or splits_matter(brute)
