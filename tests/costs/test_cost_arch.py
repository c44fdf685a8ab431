"""Parameter and KV counts against published figures and hand computation."""

from __future__ import annotations

import pytest
from costs_shapes import DEEPSEEK_V3, LLAMA_8B, LLAMA_70B, MIXTRAL, QWEN_7B, QWEN_HALF_B

from hexdsl.costs.arch import (
    Arch,
    active_experts,
    active_params,
    attention_params,
    kv_shards,
    kv_values,
    layer_params,
    slice_params,
    total_params,
    tp_divides,
)


@pytest.mark.parametrize(
    ("arch", "published"),
    [
        (LLAMA_8B, 8.03e9),
        (LLAMA_70B, 70.55e9),
        (QWEN_7B, 7.62e9),
        (QWEN_HALF_B, 0.494e9),
        (MIXTRAL, 46.7e9),
    ],
)
def test_total_parameters(arch: Arch, published: float) -> None:
    assert total_params(arch) == pytest.approx(published, rel=0.002)


def test_deepseek_v3_parameters() -> None:
    assert total_params(DEEPSEEK_V3) == pytest.approx(671e9, rel=0.015)
    assert active_params(DEEPSEEK_V3) == pytest.approx(37e9, rel=0.03)


def test_active_parameters_of_a_mixture() -> None:
    assert active_params(MIXTRAL) == pytest.approx(12.9e9, rel=0.005)


def test_attention_by_hand() -> None:
    assert attention_params(LLAMA_8B) == 4096 * 4096 * 2 + 4096 * 1024 * 2


def test_slices_add_up_and_know_the_dense_layers() -> None:
    assert slice_params(DEEPSEEK_V3, [0, 3], [3, 61]).sum() == layer_params(DEEPSEEK_V3).sum()
    first = slice_params(DEEPSEEK_V3, 0, 1)
    assert first == pytest.approx(attention_params(DEEPSEEK_V3) + 3 * 7168 * 18432 + 2 * 7168)
    assert slice_params(DEEPSEEK_V3, 3, 4) > 10 * first


def test_kv_values_per_token_and_layer() -> None:
    assert kv_values(LLAMA_8B) == 2 * 8 * 128
    assert kv_values(DEEPSEEK_V3) == 512 + 64


def test_kv_heads_are_copied_beyond_their_number() -> None:
    assert list(kv_shards(QWEN_7B, [1, 2, 4, 8])) == [1, 2, 4, 4]
    assert list(kv_shards(DEEPSEEK_V3, [1, 8])) == [1, 1]


def test_a_step_reads_few_experts_for_one_token_and_nearly_all_for_many() -> None:
    assert active_experts(MIXTRAL, 1) == pytest.approx(2)
    assert active_experts(MIXTRAL, 64) == pytest.approx(8, rel=1e-6)
    assert active_experts(LLAMA_8B, 64) == 0


def test_tp_must_divide_the_heads() -> None:
    assert [tp for tp in range(1, 9) if tp_divides(QWEN_7B, tp)] == [1, 2, 4]
    assert [tp for tp in (1, 2, 4, 8, 16) if tp_divides(LLAMA_8B, tp)] == [1, 2, 4, 8, 16]
    assert not tp_divides(LLAMA_8B, 3)
