"""Stages x patterns against enumeration, the true flow, and the bounds."""

from __future__ import annotations

import random

import pytest
from pool_cases import best_line_flow, best_placement_flow, bumpy, falling

from hexdsl.passes.pool.bounds import compute_bound, coverage_bound, flow_bound
from hexdsl.passes.pool.flow import max_flow
from hexdsl.passes.pool.kinds import Holder, Kind, Line, Links, Wire
from hexdsl.passes.pool.mesh import improve
from hexdsl.passes.pool.network import plan_pool
from hexdsl.passes.pool.patterns import TOLERANCE, front, plan_line


def covers(line: Line, layers: int) -> bool:
    """Stages follow each other, hold every layer once, and use no more nodes than there are."""
    edges = [0, *(s.end for s in line.stages)]
    within = all(sum(s.nodes[t] for s in line.stages) <= k.count for t, k in enumerate(line.kinds))
    return [s.first for s in line.stages] == edges[:-1] and edges[-1] == layers and within


@pytest.mark.parametrize("seed", range(12))
def test_the_best_line_is_that_of_enumeration(seed: int) -> None:
    rng = random.Random(seed)
    make = bumpy if seed % 3 == 0 else falling
    kinds = [make(rng, f"k{i}", rng.randint(1, 3), rng.randint(1, 4)) for i in range(2)]
    layers = rng.randint(3, 8)
    line, best = plan_line(kinds, layers), best_line_flow(kinds, layers)
    if line is None:
        assert best == 0
        return
    assert line.complete
    assert covers(line, layers)
    assert line.flow >= best * (1 - 2 * TOLERANCE)
    assert max_flow(line.holders, layers).value == pytest.approx(line.flow, rel=1e-4)


@pytest.mark.parametrize("seed", range(30))
def test_bounds_are_in_order_and_no_line_beats_them(seed: int) -> None:
    rng = random.Random(seed)
    make = bumpy if seed % 4 == 0 else falling
    kinds = [make(rng, f"k{i}", rng.randint(0, 6), rng.randint(1, 6)) for i in range(rng.randint(1, 4))]
    layers = rng.randint(4, 24)
    tight, knapsack, loose = flow_bound(kinds, layers), coverage_bound(kinds, layers), compute_bound(kinds, layers)
    assert tight <= knapsack * (1 + 1e-9) + 1e-9
    assert knapsack <= loose * (1 + 1e-9)
    line = plan_line(kinds, layers)
    if line is None:
        return
    assert covers(line, layers)
    assert line.flow <= tight * (1 + 1e-9)
    assert line.flow <= flow_bound(kinds, layers, line.depth) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_any_placement_is_found_by_the_mesh_and_bounded(seed: int) -> None:
    rng = random.Random(seed)
    kinds = [falling(rng, "a", 2, 3), falling(rng, "b", 1, 4)]
    layers = 4
    best = best_placement_flow(kinds, layers)
    line = plan_line(kinds, layers)
    assert line is not None
    found = improve(kinds, layers, line)
    assert found.proven
    assert found.flow == pytest.approx(best, rel=1e-3)
    assert max_flow(found.holders, layers).value == pytest.approx(found.flow, rel=1e-3)
    assert best <= flow_bound(kinds, layers) * (1 + 1e-4)


def test_lines_side_by_side_beat_one_where_they_should() -> None:
    kinds = [Kind("whole", 1, (400.0, 200.0, 133.0, 100.0)), Kind("half", 2, (160.0, 80.0))]
    line, pool = plan_line(kinds, 4), plan_pool(kinds, 4)
    assert line is not None
    assert pool is not None
    assert pool.flow.value == pytest.approx(180, rel=1e-3)
    assert line.flow < 170


def test_deeper_lines_on_the_front_have_more_flow() -> None:
    rng = random.Random(5)
    kinds = [falling(rng, f"k{i}", 5, 6) for i in range(3)]
    lines = front(kinds, 20)
    assert len(lines) > 2
    assert [x.depth for x in lines] == sorted({x.depth for x in lines})
    assert [x.flow for x in lines] == sorted(x.flow for x in lines)


def test_a_slow_wire_parts_the_regions() -> None:
    rates = (100.0, 50.0, 33.0, 25.0)
    kinds = [Kind("east", 4, rates, "e"), Kind("west", 4, rates, "w")]
    for tokens_s, lines in ((1e9, None), (1.0, 2)):
        pool = plan_pool(kinds, 4, Links(between={("e", "w"): Wire(tokens_s)}))
        assert pool is not None
        assert pool.flow.value == pytest.approx(200, rel=1e-3)
        assert lines is None or len(pool.routes) == lines


def test_a_region_that_cannot_hold_the_model_is_joined_over_the_wires_there_are() -> None:
    kinds = [Kind("east", 2, (100.0, 50.0), "e"), Kind("west", 2, (100.0, 50.0), "w")]
    links = Links(between={("w", "e"): Wire(30.0)})
    full = plan_pool(kinds, 8, links)
    assert full is not None
    assert full.flow.value == pytest.approx(30, rel=1e-3)
    assert len(full.flow.binding) == 1
    wider = plan_pool(kinds, 6, links)
    assert wider is not None
    assert wider.flow.value == pytest.approx(50, rel=1e-3)
    assert plan_pool(kinds, 9, links) is None


def test_flow_follows_only_where_ranges_meet_unless_partial() -> None:
    holders = [Holder("a", 0, 3, 10.0), Holder("b", 2, 4, 20.0)]
    assert max_flow(holders, 4).value == 0
    whole = max_flow(holders, 4, partial=True)
    assert whole.value == pytest.approx(10)
    assert whole.binding == ("a",)
    assert whole.depth == 2


def test_nothing_is_planned_on_nothing() -> None:
    assert plan_line([Kind("none", 0, (1.0,))], 3) is None
    assert front([Kind("small", 1, (1.0,))], 3) == ()
    with pytest.raises(ValueError, match="finite"):
        Kind("odd", 1, (float("nan"),))
    with pytest.raises(ValueError, match="same name"):
        plan_pool([Kind("a", 1, (1.0,))] * 2, 1)
