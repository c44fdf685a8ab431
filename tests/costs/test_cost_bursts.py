"""Bubbles of a pipeline whose steps are of unlike length, against the recursion of a closed tandem line."""

from __future__ import annotations

import numpy as np
import pytest

from hexdsl.costs.bursts import LEAST_STEP_TOKENS, burst, chunks_of, step_budget

STEPS = 30_000
RARE = (4, 64.0, 1e-9, 2000.0, 2048.0)


def mean_step(times: list[float], stages: int) -> float:
    """Seconds between steps of a line in which step k enters when step k - stages has left, first come first served."""
    free, left = [0.0] * stages, [0.0] * stages
    for k, seconds in enumerate(times):
        at = left[k % stages]
        for i in range(stages):
            at = free[i] = max(free[i], at) + seconds
        left[k % stages] = at
    return max(left) / len(times)


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
@pytest.mark.parametrize("prompts", [0.05, 0.3, 1.0])
def test_bubbles_are_those_of_a_closed_line(stages: int, prompts: float) -> None:
    """A step holds a whole prompt or none: its budget has room for one."""
    rng = np.random.default_rng(stages)
    share = 1 - np.exp(-prompts)
    times = np.where(rng.random(STEPS) < share, prompts / share, 0.0).tolist()
    found = float(burst(stages, 8.0, prompts, 1000.0, 1e9).prompts) * prompts
    real = mean_step(times, stages)
    assert 0.95 * real <= found <= 1.15 * real


def test_no_bubbles_where_steps_are_alike() -> None:
    one, full, rare = (burst(*case) for case in ((1, 64.0, 0.5, 2e3, 2048.0), (4, 64.0, 1.0, 2e3, 2064.0), RARE))
    assert (one.prompts, one.head) == pytest.approx((1.0, 1.0))
    assert (full.prompts, full.head) == pytest.approx((1.0, 1.0))
    assert (rare.prompts, rare.head) == pytest.approx((4.0, 1.0), rel=1e-3)


def test_the_budget_serves_the_mean_step_with_room() -> None:
    assert step_budget(1, 64.0, 300.0, 2048.0) == 2048.0
    assert step_budget(4, 4.0, 3.0, 2048.0) == LEAST_STEP_TOKENS
    found = step_budget(4, np.array([64.0, 64.0]), np.array([600.0, 9000.0]), 2048.0)
    assert found.tolist() == [832.0, 2048.0]


def test_a_prompt_takes_the_steps_that_its_chunks_need() -> None:
    assert chunks_of(np.array([100.0, 1984.0, 1985.0]), 64.0, 2048.0).tolist() == [1.0, 1.0, 2.0]
