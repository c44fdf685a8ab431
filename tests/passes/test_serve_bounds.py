"""The way of large inventories, taken on small ones where the optimum is known."""

from __future__ import annotations

import pytest
from serve_cases import Case, small_case

from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Plan

SEEDS = range(1000, 1040)


def plan_of(case: Case) -> Plan | None:
    try:
        return case.plan()
    except NoPlanError:
        return None


@pytest.mark.parametrize(
    ("objective", "sign"), [("throughput", 1), ("goodput", 1), ("cost", -1), ("tpot", -1), ("ttft", -1)]
)
def test_relaxation_bounds_the_optimum_and_the_search_comes_near(
    objective: str, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No exact optimum is beyond the relaxation's bound; the search of promising shapes loses little on it."""
    shares: list[float] = []
    for seed in SEEDS:
        case = small_case(seed, objective, gpus=6)
        exact = plan_of(case)
        with monkeypatch.context() as patch:
            patch.setattr("hexdsl.passes.serve.problem.SMALL", 0)
            wide = plan_of(case)
        if exact is None:
            assert wide is None
            continue
        optimum = exact.certificates[0]
        if wide is None:
            shares.append(0.0)
            continue
        found = wide.certificates[0]
        assert not found.exact
        assert sign * optimum.objective <= sign * found.bound * (1 + sign * 1e-6)
        assert sign * found.objective <= sign * optimum.bound * (1 + sign * 1e-6)
        shares.append((found.objective / optimum.objective) ** sign)
    assert len(shares) >= len(SEEDS) / 3
    assert sorted(shares)[len(shares) // 2] > 0.97
    assert sum(s > 0.8 for s in shares) >= 0.8 * len(shares)
