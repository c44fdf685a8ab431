"""The scheduler's rules, one at a time, on loads small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sim_shapes import ENGINE, PLAIN, Plain, one, replica, request

from hexdsl.sim.request import Status
from hexdsl.sim.simulate import simulate
from hexdsl.sim.spec import Cluster, EngineSpec, SimConfig
from hexdsl.sim.steps import Batch

UNIT = Plain(fixed_s=1.0, token_s=0.0, context_s=0.0)
"""Every step takes a second."""


def units(**engine: object) -> Cluster:
    return Cluster((replica(engine=replace(ENGINE, **engine), times=UNIT),))  # type: ignore[arg-type]


def test_a_request_alone_takes_a_prompt_step_and_then_a_step_a_token() -> None:
    result = simulate([request(0, prompt=100, output=10)], one())
    decode = sum(PLAIN.seconds(Batch(1, 100 + i, 100 + i, 100 + i))[0] for i in range(9))
    assert result.first_token_s[0] == pytest.approx(PLAIN.seconds(Batch(0, 0, 0, 0, ((100, 0),)))[0])
    assert result.finish_s[0] - result.first_token_s[0] == pytest.approx(decode)
    assert result.tpot_s[0] == pytest.approx(decode / 9)


def test_a_long_prompt_is_cut_into_chunks_of_the_budget() -> None:
    result = simulate([request(0, prompt=1100, output=1)], units(max_num_batched_tokens=512))
    assert result.first_token_s[0] == 3.0


def test_without_chunks_a_prompt_waits_for_a_step_of_its_own() -> None:
    load = [request(0, prompt=300, output=3), request(1, prompt=300, output=1)]
    whole = simulate(load, units(chunked_prefill=False))
    parts = simulate(load, units())
    assert whole.scheduled_s.tolist() == [0.0, 1.0]
    assert parts.scheduled_s.tolist() == [0.0, 0.0]


def test_decodes_come_before_prompts() -> None:
    """With 2 decodes and a budget of 16, a prompt of 28 needs two steps."""
    load = [request(0, prompt=8, output=20), request(1, prompt=8, output=20), request(2, at=0.5, prompt=28, output=1)]
    result = simulate(load, units(max_num_batched_tokens=16, max_num_seqs=8))
    assert result.scheduled_s[2] == 1.0
    assert result.first_token_s[2] == 3.0


def test_seats_limit_how_many_run() -> None:
    result = simulate([request(i, output=5) for i in range(4)], units(max_num_seqs=2))
    assert result.scheduled_s.tolist() == [0.0, 0.0, 5.0, 5.0]


def test_a_full_cache_preempts_the_last_and_computes_it_again() -> None:
    """Two of 32 + 40 tokens need 10 blocks, and there are 8: the second one gives way."""
    load = [request(0, prompt=32, output=40), request(1, prompt=32, output=40)]
    result = simulate(load, units(blocks=8, prefix_caching=False))
    assert result.preemptions.tolist() == [0, 1]
    assert result.finish_s[0] == 40.0
    assert result.finish_s[1] > 40.0
    assert result.generated.tolist() == [40, 40]


def test_a_preempted_request_finds_what_is_left_of_its_blocks() -> None:
    load = [request(0, prompt=32, output=40), request(1, prompt=32, output=40)]
    result = simulate(load, units(blocks=8))
    assert result.preemptions.tolist() == [0, 1]
    assert result.cached[1] > 0


def test_a_prompt_is_admitted_only_if_all_of_it_fits() -> None:
    load = [request(0, prompt=64, output=40), request(1, prompt=80, output=1)]
    limits = {"blocks": 10, "max_num_batched_tokens": 96, "prefix_caching": False}
    assert simulate(load, units(**limits)).preemptions.sum() == 0
    assert simulate(load, units(**limits, reserve_full_prompt=False)).scheduled_s[1] == 0.0


def test_the_more_urgent_goes_first_and_the_least_urgent_gives_way() -> None:
    load = [request(0, output=3), request(1, priority=2, output=1), request(2, priority=1, output=1)]
    result = simulate(load, units(max_num_seqs=1, policy="priority"))
    assert result.scheduled_s.tolist() == [0.0, 4.0, 3.0]
    tight = [request(0, prompt=32, output=40, priority=1), request(1, prompt=32, output=40)]
    assert simulate(tight, units(blocks=8, policy="priority")).preemptions.tolist() == [1, 0]


def test_a_shared_prefix_is_computed_once() -> None:
    load = [request(0, prompt=128, output=4, blocks=(7, 8), block_tokens=64), request(1, at=2.5, prompt=160, output=4)]
    load[1] = replace(load[1], blocks=(7, 8, 9), block_tokens=64)
    assert simulate(load, one()).cached.tolist() == [0, 128]
    assert simulate(load, one(prefix_caching=False)).cached.tolist() == [0, 0]


def test_of_a_prompt_that_is_known_whole_the_last_block_is_computed() -> None:
    load = [request(i, at=float(i), prompt=128, output=2, blocks=(1, 2), block_tokens=64) for i in range(2)]
    assert simulate(load, one()).cached.tolist() == [0, 112]


def test_an_answer_can_be_the_prefix_of_the_next_turn() -> None:
    first = request(0, prompt=64, output=65, blocks=(1, 2), block_tokens=64)
    second = request(1, at=5.0, prompt=192, output=1, blocks=(1, 2, 3), block_tokens=64)
    assert simulate([first, second], one()).cached.tolist() == [0, 128]


def test_prefixes_are_evicted_when_their_blocks_are_needed() -> None:
    prefix = {"prompt": 96, "output": 2, "blocks": (1, 2, 3), "block_tokens": 32}
    load = [request(0, **prefix), request(1, at=5.0, prompt=150, output=2), request(2, at=10.0, **prefix)]
    assert simulate(load, one(blocks=20)).cached[2] == 80
    assert simulate(load, one(blocks=10)).cached[2] == 0


def test_what_can_never_fit_is_rejected() -> None:
    result = simulate([request(0, prompt=160), request(1, prompt=100, output=500)], one(blocks=10))
    assert result.status.tolist() == [Status.rejected, Status.finished]
    assert result.generated.tolist() == [0, 60]
    assert np.isnan(result.ttft_s[0])


def test_the_entry_time_delays_a_request() -> None:
    result = simulate([request(0, at=1.0)], one(entry_s=0.25))
    assert result.scheduled_s[0] == 1.25


def test_jumps_are_exact_where_times_are_linear() -> None:
    load = [request(i, at=0.1 * i, prompt=50 + 7 * i, output=200) for i in range(6)]
    fast, slow = simulate(load, one()), simulate(load, one(), SimConfig(max_jump=1))
    np.testing.assert_allclose(fast.finish_s, slow.finish_s, rtol=1e-12)
    assert len(fast.replicas[0].time_s) < len(slow.replicas[0].time_s) / 5


def test_time_goes_on_until_it_is_stopped() -> None:
    result = simulate([request(i, at=10.0 * i) for i in range(5)], one(), SimConfig(until_s=25.0))
    assert result.status.tolist() == [Status.finished] * 3
    assert result.end_s <= 25.0


@pytest.mark.parametrize(
    "wrong",
    [{"blocks": 0}, {"max_num_seqs": 600}, {"entry_s": -1.0}, {"max_model_len": 1}],
)
def test_impossible_engines_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        EngineSpec(**{"blocks": 10, "max_num_batched_tokens": 512, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("load", "told"),
    [
        ([request(0, at=1.0), request(1)], "arrives before"),
        ([request(0), request(0)], "two requests"),
        ([request(0, prompt=0)], "less than one token"),
    ],
)
def test_impossible_loads_are_refused(load: list, told: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=told):
        simulate(load, one())
