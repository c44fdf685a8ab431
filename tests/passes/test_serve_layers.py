"""Layer splits against the enumeration of all of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexdsl.passes.serve.layers import Ints, Pace, split_all, split_layers


def pace(rng: np.random.Generator, stages: int, layers: int, rows: int = 3) -> Pace:
    """Random stages that can hold the layers, some with equal slopes."""
    most = rng.integers(1, layers + 1, (rows, stages))
    most[:, 0] = np.maximum(most[:, 0], layers - most[:, 1:].sum(axis=1))
    slope = rng.choice([0.2, 0.5, *rng.uniform(0.1, 1, 3)], (rows, stages))
    fixed = np.where(np.arange(stages) == stages - 1, rng.uniform(0, 0.5), 0.0) * np.ones((rows, 1))
    return Pace(
        slope=slope,
        fixed=fixed,
        peak=slope * rng.choice([1.0, *rng.uniform(1, 2, 2)], (rows, stages)),
        hidden=fixed * rng.uniform(0, 1, (rows, 1)),
        most=most,
        extra=rng.choice([0.0, 0.7], rows),
        rounds=rng.integers(1, stages + 1, rows).astype(float),
        floor=rng.choice([0.0, 3.0], rows),
    )


def every_split(layers: int, stages: int) -> Ints:
    cuts = [(0, *c, layers) for c in combinations(range(1, layers), stages - 1)]
    return np.diff(np.array(cuts), axis=1)


@given(st.integers(1, 5), st.integers(0, 6), st.integers(0, 10**6))
def test_no_split_is_quicker_and_of_equal_ones_none_is_more_even(stages: int, more: int, seed: int) -> None:
    layers = stages + more
    given_pace = pace(np.random.default_rng(seed), stages, layers)
    found = split_layers(layers, given_pace)
    assert (found.sum(axis=1) == layers).all()
    assert ((found >= 1) & (found <= given_pace.most)).all()
    for row, split in enumerate(found):
        fits = [s for s in every_split(layers, stages) if (s <= given_pace.most[row]).all()]
        cycles = [_cycle(given_pace, row, s) for s in fits]
        busiest = [_busiest(given_pace, row, s) for s in fits]
        assert _cycle(given_pace, row, split) == pytest.approx(min(cycles), rel=1e-8)
        least = min(b for b, c in zip(busiest, cycles, strict=True) if c <= min(cycles) * (1 + 1e-10))
        assert _busiest(given_pace, row, split) <= least * (1 + 1e-5)


def _cycle(of: Pace, row: int, split: Ints) -> float:
    path = of.extra[row] + (of.slope[row] * split + of.fixed[row]).sum()
    return float(max(path, of.rounds[row] * _busiest(of, row, split), of.floor[row]))


def _busiest(of: Pace, row: int, split: Ints) -> float:
    busy, burst = of.slope[row] * split + of.fixed[row], of.peak[row] * split + of.hidden[row]
    return float(np.maximum(busy, burst).max())


def test_equal_stages_get_equal_layers() -> None:
    """Where only the sum counts, as with one request, the layers are still spread evenly."""
    slope, zero, none, one = np.full((1, 4), 0.3), np.zeros((1, 4)), np.zeros(1), np.ones(1)
    even = Pace(slope, zero, slope, zero, np.full((1, 4), 80), none, one, none)
    assert split_layers(80, even).tolist() == [[20, 20, 20, 20]]


def test_splits_together_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hexdsl.passes.serve.layers.TOGETHER", 7)
    rng = np.random.default_rng(0)
    paces = [pace(rng, int(rng.integers(1, 5)), 9, rows=int(rng.integers(1, 5))) for _ in range(20)]
    together = split_all(9, paces)
    assert all((split == split_layers(9, one)).all() for split, one in zip(together, paces, strict=True))
