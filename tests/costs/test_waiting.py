"""The queue in front of a replica: known formulas, and a simulated queue."""

from __future__ import annotations

import numpy as np
import pytest

from hexdsl.costs.serving import Load, waiting


def test_poisson_arrivals_of_equal_prompts_wait_as_in_md1() -> None:
    busy = np.array([0.1, 0.5, 0.9])
    assert waiting(0.2, busy / 0.2, Load(1, 1)) == pytest.approx(0.2 * busy / (2 * (1 - busy)))


def test_unlike_prompts_wait_as_in_mg1() -> None:
    found = waiting(1.0, 0.5, Load(1, 1, cv_prompt=1.0))
    assert float(found) == pytest.approx(1.0)  # M/M/1 at half load: one service


def test_overload_waits_for_ever() -> None:
    assert np.isinf(waiting(1.0, 1.0, Load(1, 1, cv=0.0)))


def test_even_arrivals_of_equal_prompts_do_not_wait() -> None:
    assert float(waiting(1.0, 0.9, Load(1, 1, cv=0.0))) == 0.0


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("replicas", [1, 4])
def test_batches_wait_as_they_do_in_a_simulated_queue(busy: float, replicas: int) -> None:
    """Poisson batches of geometric size m have a squared variation of gaps of 2m - 1; each replica takes its share."""
    rng, mean_size = np.random.default_rng(5), 5.0
    count = 1_000_000 * replicas
    first = rng.random(count) < 1 / mean_size
    gaps = np.where(first, rng.exponential(mean_size / replicas, count), 0.0)
    times = np.cumsum(gaps)[rng.integers(replicas, size=count) == 0]
    work = np.concatenate([[0.0], np.cumsum(busy - np.diff(times))])
    simulated = (work - np.minimum.accumulate(work)).mean()
    load = Load(1, 1, cv=(2 * mean_size - 1) ** 0.5, arrivals=float(replicas))
    assert simulated == pytest.approx(float(waiting(busy, 1.0, load)), rel=0.04)


def test_variation_may_depend_on_the_load() -> None:
    load = Load(1, 1, cv=(1.0, 1.0, 2.0, 3.0, 3.0))
    low, high = (float(waiting(1.0, rate, load)) for rate in (0.2, 0.7))
    assert low == pytest.approx(0.2 / 1.6)
    assert high == pytest.approx((0.7 + 8) / 0.6)
