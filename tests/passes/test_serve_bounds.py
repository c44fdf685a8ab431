"""The way of large inventories, taken on small ones where the optimum is known."""

from __future__ import annotations

import pytest
from serve_cases import Case, small_case

from hexdsl.api import load_text, plan
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


USUAL = """import "std/gpus.hex"
import "std/models.hex"
model m : llama70b { weights = int4(group = 128) }
cluster c {
  nodes a { count = 2, gpus = 4 * A6000, nic = 100Gb/s }
  nodes b { count = 3, gpus = 4 * %s, nic = 100Gb/s }
  a <-> b { bandwidth = 50Gb/s }
}
serve s { model = m, on = c, maximize throughput }
"""


@pytest.mark.parametrize("gpu", ["H100", "L40S", "A100"])
def test_the_bound_is_near_on_usual_inventories(gpu: str) -> None:
    """Twenty GPUs of two kinds under a 70B model: the search and the relaxation leave little between them."""
    found = plan(load_text(USUAL % gpu)).certificates[0]
    assert found.objective <= found.bound <= 1.25 * found.objective
