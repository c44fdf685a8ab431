"""TPOT, TTFT and rates: how they move, what they are made of, and how far they are from measurement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from costs_shapes import (
    A100,
    CPU,
    DEEPSEEK_V3,
    ETHERNET,
    H100,
    L40S,
    LLAMA_8B,
    LLAMA_70B,
    NVLINK,
    PCIE4,
    QWEN_HALF_B,
    UNKNOWN,
)

from hexdsl.costs.gpu import Formats, Gpu
from hexdsl.costs.overheads import Overheads
from hexdsl.costs.predict import predict_rate, predict_tpot, predict_ttft
from hexdsl.costs.serving import Load, Pipeline, Stage, pipeline
from hexdsl.costs.stage import gpu_cost, stage_cost

BF16 = Formats()
CHAT = Load(1000, 200)
BATCHES = np.arange(1, 300)


def one(gpu: Gpu, tp: int = 1, layers: int = 80) -> Pipeline:
    return pipeline([Stage((gpu,) * tp, layers, NVLINK)], [], LLAMA_70B, BF16)


def test_decode_step_by_hand() -> None:
    """One sequence, 1000 tokens of context, one layer of Llama-3.1-8B on an A100."""
    parts = stage_cost([A100], None, LLAMA_8B, BF16).decode(1.0, 1000.0)
    weights = 2 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336 + 2 * 4096) / (2.039e12 * 0.80)
    assert parts.weights == pytest.approx(weights)
    assert parts.kv == pytest.approx(1000 * 2 * 8 * 128 * 2 / (2.039e12 * 0.737), rel=0.01)
    assert parts.compute < 0.01 * weights
    assert parts.network == 0
    assert parts.overhead == Overheads().layer_s


def test_prefill_by_hand() -> None:
    """1024 tokens through one layer of Llama-3.1-8B on an H100: products at 81 % and attention at 25 % of the peak."""
    cost = stage_cost([H100], None, LLAMA_8B, BF16)
    products = 2 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336) * 1024 / (989e12 * 0.8135)
    attention = 2 * 32 * 128 * 1024**2 / (989e12 * 0.245)
    assert cost.prefill(1024) == pytest.approx(products + attention, rel=1e-3)


def test_arrays_equal_scalars() -> None:
    line = one(H100, 4)
    assert list(line.tpot(BATCHES, CHAT)) == [float(line.tpot(int(b), CHAT)) for b in BATCHES]


@pytest.mark.parametrize("gpu", [A100, H100, L40S, UNKNOWN, CPU])
@pytest.mark.parametrize("load", [CHAT, Load(10, 1000), Load(8000, 10)])
def test_more_sequences_never_make_a_token_quicker_nor_the_replica_slower(gpu: Gpu, load: Load) -> None:
    line = pipeline([Stage((gpu,) * 2, 80)], [], LLAMA_70B, BF16)
    assert np.all(np.diff(line.tpot(BATCHES, load)) > 0)
    assert np.all(np.diff(line.rate(BATCHES, load)) > 0)


def test_more_layers_are_slower() -> None:
    times = [float(one(H100, 2, layers).tpot(16, CHAT)) for layers in (10, 20, 40, 80)]
    assert times == sorted(times)


def test_a_mixed_group_runs_at_the_pace_of_its_slowest_card() -> None:
    slow, fast, mixed = (
        pipeline([Stage(gpus, 80, NVLINK)], [], LLAMA_70B, BF16) for gpus in ((A100, A100), (H100, H100), (A100, H100))
    )
    assert np.all(mixed.tpot(BATCHES, CHAT) >= slow.tpot(BATCHES, CHAT) - 1e-12)
    assert np.all(mixed.tpot(BATCHES, CHAT) > fast.tpot(BATCHES, CHAT))
    assert mixed.first_token(1000) >= slow.first_token(1000)


def test_slowest_stage_sets_the_pace_of_a_full_pipeline() -> None:
    even = pipeline([Stage((H100,), 40), Stage((H100,), 40)], [NVLINK], LLAMA_70B, BF16)
    mixed = pipeline([Stage((H100,), 40), Stage((A100,), 40)], [NVLINK], LLAMA_70B, BF16)
    uneven = pipeline([Stage((H100,), 60), Stage((A100,), 20)], [NVLINK], LLAMA_70B, BF16)
    assert mixed.tpot(64, CHAT) > even.tpot(64, CHAT)
    assert uneven.tpot(64, CHAT) < mixed.tpot(64, CHAT)
    held = [float(v.held(mixed.burst(64, CHAT))) for v in mixed.visits(64, CHAT)]
    assert mixed.tpot(64, CHAT) == pytest.approx(2 * max(held))


def test_one_sequence_sees_the_whole_path() -> None:
    line = pipeline([Stage((H100,), 40), Stage((A100,), 40)], [ETHERNET], LLAMA_70B, BF16)
    path = sum(float(v.busy + v.latency) for v in line.visits(1, CHAT))
    assert line.tpot(1, CHAT) == pytest.approx(path)


def test_a_slow_link_can_be_the_bottleneck() -> None:
    fast = pipeline([Stage((H100,), 40), Stage((H100,), 40)], [NVLINK], LLAMA_70B, BF16)
    slow = pipeline([Stage((H100,), 40), Stage((H100,), 40)], [replace(ETHERNET, bandwidth=3e7)], LLAMA_70B, BF16)
    crossing = (32 + float(slow.burst(64, CHAT).prompts) * 32 / 200 * 1000) * 8192 * 2 / 3e7
    assert slow.tpot(64, CHAT) == pytest.approx(2 * crossing)
    assert slow.tpot(64, CHAT) > 2 * fast.tpot(64, CHAT)


def test_wrong_number_of_links_is_refused() -> None:
    with pytest.raises(ValueError, match="one link fewer"):
        pipeline([Stage((H100,), 40), Stage((H100,), 40)], [], LLAMA_70B, BF16)


def test_prefill_of_others_costs_every_token() -> None:
    line = one(H100, 4)
    with_prompts, without = float(line.tpot(64, CHAT)), float(line.tpot(64, CHAT, prefill=False))
    assert with_prompts - without == pytest.approx(64 / 200 * 80 * float(line.stages[0].prefill(1000)))


def test_formats() -> None:
    fp8 = pipeline([Stage((H100,) * 4, 80, NVLINK)], [], LLAMA_70B, Formats("fp8", "fp8", "fp8"))
    assert 0.4 < float(fp8.tpot(8, CHAT) / one(H100, 4).tpot(8, CHAT)) < 0.7
    weight_only = gpu_cost(A100, LLAMA_70B, Formats("int4", "bf16"))
    assert weight_only.token_s == gpu_cost(A100, LLAMA_70B, BF16).token_s
    with pytest.raises(ValueError, match="no compute rate"):
        gpu_cost(replace(A100, name="none", flops={"fp8": 1e12}), LLAMA_70B, BF16)


def test_a_mixture_reads_more_experts_with_more_sequences() -> None:
    cost = stage_cost([H100] * 8, NVLINK, DEEPSEEK_V3, Formats("fp8", "fp8", "bf16"))
    weights = cost.decode([1.0, 16.0, 4096.0], 1000.0).weights
    assert weights[0] < 0.1 * weights[2]
    assert weights[0] < weights[1] < weights[2]


def test_a_laptop_is_priced_sanely() -> None:
    """Half a billion fp32 weights over 10 GB/s: about a quarter of a second a token, and seconds for a long prompt."""
    line = pipeline([Stage((CPU,), 24)], [], QWEN_HALF_B, Formats("fp32", "fp32", "fp32"))
    assert 0.2 < float(line.tpot(1, Load(100, 100))) < 0.4
    assert 5 < float(line.first_token(1000)) < 60


def test_estimates_have_ranges_and_parts_that_add_up() -> None:
    line = pipeline([Stage((H100,), 30), Stage((A100,), 50)], [PCIE4], LLAMA_70B, BF16)
    for batch in (1, 64):
        for found in (predict_tpot(line, batch, CHAT), predict_ttft(line, batch, CHAT)):
            assert found.low < found.value < found.high
            assert sum(t.value for t in found.terms) == pytest.approx(found.value)
            assert len({t.name for t in found.terms}) == len(found.terms)
    rate = predict_rate(line, 64, CHAT)
    assert rate.value == pytest.approx(float(line.rate(64, CHAT)))
    assert rate.low < rate.value < rate.high


def test_unknown_gpus_are_marked_and_get_a_wider_range() -> None:
    known, unknown = (predict_tpot(one(gpu), 8, CHAT) for gpu in (H100, UNKNOWN))
    assert {t.provenance for t in known.terms} == {"measured"}
    assert "modelled" in {t.provenance for t in unknown.terms}
    assert unknown.high / unknown.value > known.high / known.value


def test_a_profile_of_the_user_goes_first() -> None:
    shipped = gpu_cost(H100, LLAMA_8B, BF16)
    profile = replace(shipped.efficiency, memory=0.5, provenance="profiled")
    profiled = gpu_cost(replace(H100, profile=profile), LLAMA_8B, BF16)
    assert profiled.provenance == "profiled"
    assert profiled.read_s == pytest.approx(shipped.read_s * shipped.efficiency.memory / 0.5)


def test_open_arrivals_queue_and_overload_waits_for_ever() -> None:
    line = one(H100, 4)
    step = float(line.tpot(8, CHAT))
    gap = float(line.turn(8, CHAT, step))
    waits = [float(line.queue(8, CHAT, share / gap, step)) for share in (0.1, 0.5, 0.9)]
    assert waits == pytest.approx([gap * s / (2 * (1 - s)) for s in (0.1, 0.5, 0.9)])
    assert line.ttft(8, CHAT, 1.1 / gap)[1] == np.inf


def test_measured_runs_of_vllm_on_gpus_that_the_overheads_were_not_fitted_on() -> None:
    """LLMServingSim's runs of Llama-3.1-8B: mean TPOT 32.4 ms at 34.4 running, and 32.5 ms at 116 (vLLM 0.19)."""
    load = Load(857, 653)
    for name, bandwidth, flops, running, measured in (
        ("RTX 4090", 1.008e12, 165.15e12, 34.4, 0.0324),
        ("RTX PRO 6000", 1.792e12, 467.8e12, 116.3, 0.0325),
    ):
        gpu = Gpu(name, 24e9, bandwidth, {"bf16": flops})
        found = predict_tpot(pipeline([Stage((gpu,), 32)], [], LLAMA_8B, BF16), running, load)
        assert found.low < measured < found.high
