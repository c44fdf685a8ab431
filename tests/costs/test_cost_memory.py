"""What fits: cap, reserve, buffers, embeddings and copied KV heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from costs_shapes import A100, CPU, H100, L40S, LLAMA_8B, LLAMA_70B, QWEN_7B, QWEN_HALF_B

from hexdsl.costs.gpu import Formats
from hexdsl.costs.memory import (
    Engine,
    Slice,
    activation_bytes,
    budget_bytes,
    comm_bytes,
    free_kv_bytes,
    kv_token_bytes,
    max_tokens,
    weight_bytes,
)

BF16 = Formats()


def whole(layers: int, tp: int = 1) -> Slice:
    return Slice(0, layers, tp)


def test_budget_is_the_capped_usable_memory_less_reserve_and_buffers() -> None:
    assert budget_bytes(A100, 1) == pytest.approx(0.9 * 80e9 - 2e9)
    assert budget_bytes(A100, 2) == pytest.approx(0.9 * 80e9 - 2e9 - 342 * 2**20)
    assert budget_bytes(L40S, 1) == pytest.approx(0.9 * 45e9 - 2e9)
    assert budget_bytes(A100, 1, Engine(utilisation=0.8)) == pytest.approx(0.8 * 80e9 - 2e9)


def test_weights_of_the_whole_model_match_its_size() -> None:
    assert weight_bytes(LLAMA_8B, BF16, whole(32)) == pytest.approx(2 * 8.03e9, rel=0.001)
    assert weight_bytes(LLAMA_70B, BF16, whole(80, 4)) == pytest.approx(32.85 * 2**30, rel=0.001)


def test_embedding_is_on_the_first_stage_and_the_head_on_the_last() -> None:
    table = 128256 * 4096 * 2
    first, middle, last = weight_bytes(LLAMA_8B, BF16, Slice([0, 8, 16], [8, 16, 32]))
    layer = middle / 8
    assert first == pytest.approx(8 * layer + table)
    assert last == pytest.approx(16 * layer + table)


def test_tied_embedding_is_stored_once_by_a_single_stage_and_twice_by_two() -> None:
    table = 151936 * 896 * 2
    split = weight_bytes(QWEN_HALF_B, BF16, Slice([0, 12], [12, 24])).sum()
    assert split - weight_bytes(QWEN_HALF_B, BF16, whole(24)) == pytest.approx(table)


def test_quantised_weights_carry_their_scales() -> None:
    assert Formats("int4").weight_bytes == pytest.approx(0.5 + 2.5 / 128)
    assert Formats("int4", group=32).weight_bytes == pytest.approx(0.5 + 2.5 / 32)
    assert Formats("fp4").weight_bytes == pytest.approx(0.5625)
    with pytest.raises(ValueError, match="unknown number format `fp7`"):
        Formats("fp7")


def test_kv_bytes_per_token() -> None:
    assert kv_token_bytes(LLAMA_8B, BF16, whole(32)) == 131072
    assert kv_token_bytes(LLAMA_8B, replace(BF16, kv="fp8"), whole(32)) == 65536


def test_kv_per_gpu_stops_shrinking_at_the_number_of_kv_heads() -> None:
    four, eight = (float(kv_token_bytes(QWEN_7B, BF16, whole(28, tp))) for tp in (4, 8))
    assert four == eight == 28 * 2 * 128 * 2


def test_a_model_that_does_not_fit_holds_no_tokens() -> None:
    assert free_kv_bytes(A100, LLAMA_70B, BF16, whole(80)) < 0
    assert max_tokens(A100, LLAMA_70B, BF16, whole(80)) == 0


def test_tokens_by_hand() -> None:
    part = whole(80, 4)
    free = budget_bytes(H100, 4) - weight_bytes(LLAMA_70B, BF16, part) - activation_bytes(LLAMA_70B, BF16, part)
    assert max_tokens(H100, LLAMA_70B, BF16, part) == np.floor(free / (80 * 2 * 8 * 128 * 2 / 4))


def test_many_slices_at_once_equal_one_by_one() -> None:
    stops = np.arange(1, 81)
    together = max_tokens(H100, LLAMA_70B, BF16, Slice(np.zeros(80, dtype=int), stops, 2))
    assert list(together) == [float(max_tokens(H100, LLAMA_70B, BF16, Slice(0, int(s), 2))) for s in stops]
    assert np.all(np.diff(together[together > 0]) < 0)


def test_small_devices_are_not_drowned_by_buffers() -> None:
    assert comm_bytes(CPU, 1) == 0
    assert comm_bytes(CPU, 2) == 4e9 / 64
    assert max_tokens(CPU, QWEN_HALF_B, Formats("fp32", "fp32", "fp32"), whole(24)) > 1000


def test_measured_kv_capacity_of_vllm_on_a_4090() -> None:
    """vLLM 0.19 found room for 41,408 tokens of Llama-3.1-8B at 0.90 of an RTX 4090 (LLMServingSim's run)."""
    gpu = replace(A100, name="RTX 4090", memory_bytes=24 * 2**30, usable_bytes=None, reserve_bytes=2e9)
    found = float(max_tokens(gpu, LLAMA_8B, BF16, whole(32)))
    assert 0.75 * 41408 <= found <= 41408
