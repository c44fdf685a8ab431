"""Memory of a training rank, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from costs_shapes import A100, H100, MIXTRAL

from hexdsl.costs.arch import Arch, expert_params, total_params
from hexdsl.costs.training.layout import stages
from hexdsl.costs.training.memory import in_flight, memory_parts, rank_bytes, room_bytes
from hexdsl.costs.training.strategy import Kernels, Recompute, TrainStrategy
from hexdsl.costs.training.work import kept_bytes

LLAMA2_7B = Arch(32, 4096, 32, 32, 128, 11008, 32000)
GPT3 = Arch(96, 12288, 96, 96, 128, 4 * 12288, 51200, tied=True, ffn_matrices=2)
MEGATRON = Kernels("unfused", dropout=True)

STATES = ("weights", "gradients", "optimizer")


def states(strategy: TrainStrategy) -> dict[str, float]:
    parts = memory_parts(LLAMA2_7B, H100, strategy, 4096)
    return {name: float(parts[name].max()) for name in STATES}


@pytest.mark.parametrize(
    ("zero", "per_parameter"),
    [(0, (2, 2, 12)), (1, (2, 2, 12 / 8)), (2, (2, 2 / 8, 12 / 8)), (3, (2 / 8, 2 / 8, 12 / 8))],
)
def test_zero_divides_the_states_of_llama_2_7b(zero: int, per_parameter: tuple[float, ...]) -> None:
    found = states(TrainStrategy(dp=8, zero=zero))
    assert total_params(LLAMA2_7B) == pytest.approx(6.738e9, rel=1e-3)
    for name, size in zip(STATES, per_parameter, strict=True):
        assert found[name] == pytest.approx(6.738e9 * size, rel=1e-3)


def test_context_parallel_ranks_share_the_shards() -> None:
    assert states(TrainStrategy(dp=4, cp=2, zero=3)) == states(TrainStrategy(dp=8, zero=3))


def test_megatron_gradients_are_wider() -> None:
    assert states(TrainStrategy(gradient_bytes=4.0))["gradients"] == pytest.approx(4 * 6.738e9, rel=1e-3)


def test_gpt3_activations_are_those_of_korthikanti_et_al() -> None:
    h, scores = 12288, 5 * 96 * 2048
    base = TrainStrategy(kernels=MEGATRON)
    cases = (
        (base, 34 * h + scores),
        (replace(base, tp=8), 10 * h + 24 * h / 8 + scores / 8),
        (replace(base, tp=8, sequence_parallel=True), (34 * h + scores) / 8),
        (replace(base, tp=8, sequence_parallel=True, recompute="selective"), 34 * h / 8),
    )
    for strategy, size in cases:
        assert float(kept_bytes(GPT3, strategy, 2048)) == pytest.approx(size)


def test_swiglu_and_grouped_queries_are_counted() -> None:
    arch = Arch(32, 4096, 32, 8, 128, 14336, 128256)
    per_token = 8 * 4096 + 2 * (4096 + 2048) + 2 * 4096 + 3 * 2 * 14336 + 4 * 32
    assert float(kept_bytes(arch, TrainStrategy(), 8192)) == per_token


def test_full_recomputation_keeps_the_input_of_each_layer() -> None:
    strategy = TrainStrategy(recompute="full", micro_batch=2)
    kept = memory_parts(LLAMA2_7B, H100, strategy, 4096)["activations"].max()
    assert float(kept) == 2 * 4096 * 2 * 4096 * (32 + 1)


@pytest.mark.parametrize(("interleave", "first"), [(1, 8.0), (3, 8 + 7 / 3)])
def test_micro_batches_in_flight(interleave: int, first: float) -> None:
    strategy = TrainStrategy(pp=8, interleave=interleave, accumulation=64)
    flying = in_flight(strategy, stages(GPT3, A100, strategy))
    assert float(flying[0]) == pytest.approx(first)
    assert float(flying[-1]) <= float(flying[1]) <= float(flying[0])


def test_no_more_micro_batches_fly_than_there_are() -> None:
    strategy = TrainStrategy(pp=8, accumulation=3)
    assert float(in_flight(strategy, stages(GPT3, A100, strategy))[0]) == 3


def test_experts_are_divided_by_ep_and_the_rest_is_not() -> None:
    whole, split = (
        float(memory_parts(MIXTRAL, H100, TrainStrategy(dp=8, ep=ep), 4096)["weights"].max()) for ep in (1, 8)
    )
    assert whole - split == pytest.approx(2 * 32 * 7 * expert_params(MIXTRAL))


def test_sharded_experts_do_not_shrink_twice() -> None:
    one, eight = (
        float(memory_parts(MIXTRAL, H100, TrainStrategy(dp=8, ep=ep, zero=1), 4096)["optimizer"].max()) for ep in (1, 8)
    )
    assert one == pytest.approx(eight)


@pytest.mark.parametrize("pp", [1, 2, 4])
def test_more_zero_and_more_recomputation_need_less(pp: int) -> None:
    base = TrainStrategy(dp=8, pp=pp, accumulation=16, zero=np.arange(3))
    assert np.all(np.diff(rank_bytes(LLAMA2_7B, H100, base, 4096).max(axis=0)) < 0)
    kinds: tuple[Recompute, ...] = ("none", "ops", "full")
    need = [rank_bytes(LLAMA2_7B, H100, replace(base, zero=1, recompute=kind), 4096).max() for kind in kinds]
    assert need[0] > need[1] > need[2]


def test_offloading_frees_the_optimizer_and_then_the_weights() -> None:
    assert states(TrainStrategy(offload="optimizer"))["optimizer"] == 0
    assert states(TrainStrategy(offload="optimizer"))["weights"] > 0
    assert states(TrainStrategy(offload="all"))["weights"] == 0


def test_room_is_what_the_fullest_rank_leaves() -> None:
    strategy = TrainStrategy(dp=8, zero=np.array([0, 3]))
    room = room_bytes(LLAMA2_7B, H100, strategy, 4096)
    assert room[0] < 0 < room[1]
    assert room[1] == pytest.approx(80e9 - rank_bytes(LLAMA2_7B, H100, replace(strategy, zero=3), 4096).max())
