"""Pipelines over slow wires: against every row of stages on small pools."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import pytest
from pool_cases import falling

from hexdsl.passes.pool.flow import max_flow
from hexdsl.passes.pool.kinds import Holder, Kind, Links, Wire
from hexdsl.passes.pool.network import in_order, plan_pool
from hexdsl.passes.pool.patterns import plan_line


def best_over_wires(kinds: Sequence[Kind], layers: int, links: Links) -> float:
    """The largest true flow over every placement of single nodes: each holds any range, or nothing."""
    nodes = [(f"{k.name}-{i}", k) for k in kinds for i in range(k.count)]
    spans = [[None, *((a, a + n) for n in range(1, len(k.rates) + 1) for a in range(layers - n + 1))] for _, k in nodes]
    best = 0.0
    for chosen in product(*spans):
        placed = [
            Holder(name, s[0], s[1], k.rates[s[1] - s[0] - 1], k.region)
            for (name, k), s in zip(nodes, chosen, strict=True) if s
        ]  # fmt: skip
        if placed:
            best = max(best, max_flow(placed, layers, links).value)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_small_pools_over_wires_come_near_enumeration(seed: int) -> None:
    """A heuristic: it must never be above, and not far below, the best of all placements."""
    rng = random.Random(seed)
    kinds = [falling(rng, "a", 2, 2, "e"), falling(rng, "b", 2, 2, "w")]
    links = Links(between={("e", "w"): Wire(rng.choice((5.0, 20.0, 60.0)))})
    pool, best = plan_pool(kinds, 3, links), best_over_wires(kinds, 3, links)
    assert pool is not None
    assert 0.8 * best <= pool.flow.value <= best * (1 + 1e-4)


def test_wide_stages_meet_at_the_border() -> None:
    """Neither region holds the model; one wire carries 12.5 tokens/s, four carry more than a node serves."""
    kinds = [Kind("a", 6, (100.0, 50.0, 33.0), "e"), Kind("b", 6, (100.0, 50.0, 33.0), "w")]
    links = Links(between={("e", "w"): Wire(12.5)})
    pool, blind = plan_pool(kinds, 24, links), plan_line(kinds, 24)
    assert pool is not None
    assert blind is not None
    assert max_flow(blind.holders, 24, links).value == pytest.approx(12.5)
    assert pool.flow.value == pytest.approx(33)


def test_the_order_of_stages_avoids_the_slow_wire() -> None:
    kinds = [Kind(n, 1, (10.0,), r) for n, r in (("a", "x"), ("b", "y"), ("c", "z"))]
    links = Links(Wire(50.0), {("x", "y"): Wire(1.0)})
    line = plan_line(kinds, 3)
    assert line is not None
    assert max_flow(line.holders, 3, links).value == pytest.approx(1)
    ordered = in_order(line, links)
    assert max_flow(ordered.holders, 3, links).value == pytest.approx(10)
    assert [s.first for s in ordered.stages] == [0, 1, 2]
    assert ordered.stages[1].nodes == (0, 0, 1)
