"""Time of a training step: bubbles, volumes, monotonicity, unlike stages, and arrays of strategies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from costs_shapes import A100, DEEPSEEK_V3, H100, LLAMA_8B, LLAMA_70B, MIXTRAL, NVLINK, UNKNOWN

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Gpu, Link
from hexdsl.costs.profile import with_profile
from hexdsl.costs.training.coefficients import default_coefficients
from hexdsl.costs.training.fabric import ring
from hexdsl.costs.training.layout import stages, weights
from hexdsl.costs.training.predict import train_step
from hexdsl.costs.training.stage import stage_compute
from hexdsl.costs.training.step import bubble_share, stage_seconds, step_parts, step_seconds
from hexdsl.costs.training.strategy import Fabric, Kernels, TrainStrategy, faults
from hexdsl.costs.training.traffic import exchange_s, rings, shard_s
from hexdsl.ir.spec.profile import Profile

FABRIC = Fabric(NVLINK, Link(50e9, 5e-6))
COEF = default_coefficients()
HEADLESS = Arch(32, 4096, 32, 8, 128, 14336, 1)
OPEN = Kernels(overlap_dp=False)


def seconds(strategy: TrainStrategy, arch: Arch = LLAMA_8B, gpu: Gpu = H100, seq: int = 4096) -> float:
    return float(step_seconds(arch, gpu, strategy, seq, FABRIC))


@pytest.mark.parametrize(("pp", "m", "v"), [(4, 8, 1), (4, 8, 2), (8, 64, 4), (2, 1, 1)])
def test_the_bubble_of_equal_stages(pp: int, m: int, v: int) -> None:
    parts = step_parts(HEADLESS, H100, TrainStrategy(pp=pp, accumulation=m, interleave=v), 4096, FABRIC)
    idle = float(parts["bubble"])
    busy = float(sum(parts.values())) - idle - float(parts["optimizer"])
    assert idle / busy == pytest.approx((pp - 1) / (v * m), rel=1e-3)


def test_more_micro_batches_shrink_the_bubble() -> None:
    share = bubble_share(
        step_parts(LLAMA_8B, H100, TrainStrategy(pp=4, accumulation=np.array([4, 8, 64])), 4096, FABRIC)
    )
    assert share[0] > share[1] > share[2] > 0


def test_recomputation_takes_time() -> None:
    base = TrainStrategy(dp=8, zero=3)
    none, ops, full = (seconds(replace(base, recompute=kind)) for kind in ("none", "ops", "full"))
    assert none < ops < full < 1.4 * none
    unfused = replace(base, kernels=Kernels("unfused"))
    assert (
        seconds(unfused)
        < seconds(replace(unfused, recompute="selective"))
        < seconds(replace(unfused, recompute="full"))
    )
    assert seconds(replace(base, recompute="selective")) == none


def test_a_step_is_at_least_its_flops_at_the_peak() -> None:
    for gpu in (H100, A100, UNKNOWN):
        cost = train_step(LLAMA_70B, gpu, TrainStrategy(tp=8, pp=8, dp=2, zero=1, accumulation=64), 4096, FABRIC)
        assert 0.2 < cost.utilisation.mfu < 0.8
        assert cost.step.low < cost.step.value < cost.step.high
        assert sum(t.value for t in cost.step.terms) == pytest.approx(cost.step.value)
    assert "modelled" in {t.provenance for t in cost.step.terms}


def test_fp8_and_bf16_use_are_not_mixed_up() -> None:
    cost = {
        p: train_step(LLAMA_8B, H100, TrainStrategy(dp=8, zero=3, precision=p), 4096, FABRIC) for p in ("bf16", "fp8")
    }
    assert cost["fp8"].step.value < cost["bf16"].step.value < 2 * cost["fp8"].step.value
    narrow, wide = cost["fp8"].utilisation, cost["bf16"].utilisation
    assert (narrow.format, wide.format) == ("fp8", "bf16")
    assert narrow.mfu < wide.mfu
    assert narrow.model_flops_per_gpu == pytest.approx(narrow.mfu * 1978e12)


def test_hfu_counts_what_is_repeated() -> None:
    used = train_step(LLAMA_8B, H100, TrainStrategy(dp=8, zero=3, recompute="full"), 4096, FABRIC).utilisation
    assert 1.25 * used.mfu < used.hfu <= 4 / 3 * used.mfu


def test_rings_within_and_across_machines() -> None:
    gigabyte = 1e9
    inner, across, wide = (ring((H100,), FABRIC, n, stride, 0.9) for n, stride in ((8, 1), (8, 8), (64, 1)))
    assert float(inner.gather(gigabyte)) == pytest.approx(7 / 8 * gigabyte / 417.1e9, rel=0.05)
    assert float(across.gather(gigabyte)) == pytest.approx(7 / 8 * gigabyte / 45e9, rel=0.05)
    assert float(wide.gather(gigabyte)) == pytest.approx(63 / 64 * gigabyte / 360e9, rel=0.1)
    assert float(inner.reduce(gigabyte)) == pytest.approx(2 * float(inner.gather(gigabyte)), rel=0.01)
    assert float(ring((H100,), FABRIC, 1, 1, 0.9).gather(gigabyte)) == 0


@pytest.mark.parametrize(("zero", "once", "every"), [(0, 2 * 2, 0), (1, 2 + 2, 0), (2, 2, 2), (3, 0, 2 + 2 * 2)])
def test_bytes_that_zero_moves_per_weight(zero: int, once: int, every: int) -> None:
    strategy = TrainStrategy(dp=8, zero=zero, kernels=OPEN)
    at = stages(LLAMA_8B, H100, strategy)
    held, groups = weights(LLAMA_8B, strategy, at), rings((H100,), FABRIC, strategy, COEF)
    compute = stage_compute(LLAMA_8B, strategy, 4096, at, COEF)
    per_byte = 8.03e9 * 7 / 8 / 417.1e9
    found = [f(strategy, held, groups, compute, COEF).max() for f in (exchange_s, shard_s)]
    assert found == [pytest.approx(size * per_byte, rel=0.01) for size in (once, every)]


def test_overlap_hides_the_exchange_behind_compute() -> None:
    shown = TrainStrategy(tp=8, dp=16, zero=1, accumulation=8, kernels=OPEN)
    hidden = replace(shown, kernels=Kernels())
    assert seconds(hidden, LLAMA_70B) < seconds(shown, LLAMA_70B)


def test_tensor_parallel_overlap_hides_a_part() -> None:
    shown = TrainStrategy(tp=8, sequence_parallel=True)
    parts = [
        step_parts(LLAMA_70B, H100, replace(shown, kernels=Kernels(overlap_tp=hides)), 4096, FABRIC)["tensor parallel"]
        for hides in (True, False)
    ]
    assert 0 < parts[0] < parts[1]


def test_experts_travel_only_between_ranks() -> None:
    alone, spread = (
        step_parts(MIXTRAL, H100, TrainStrategy(dp=8, ep=ep, zero=1), 4096, FABRIC)["expert parallel"] for ep in (1, 8)
    )
    sent = 4 * 32 * 4096 * 2 * 4096 * 2
    assert alone == 0
    assert float(spread) == pytest.approx(sent * 7 / 8 / 417.1e9 + 4 * 32 * 15.6e-6, rel=0.01)


def test_context_parallel_divides_a_long_sequence() -> None:
    one, four = (seconds(TrainStrategy(cp=cp, zero=1), seq=65536) for cp in (1, 4))
    assert one / 4 < four < one / 3


def test_offloading_the_optimizer_takes_the_host_link() -> None:
    base = TrainStrategy(dp=8, zero=1)
    parts = step_parts(LLAMA_8B, H100, replace(base, offload="optimizer"), 4096, FABRIC)
    mine = 8.03e9 / 8
    assert float(parts["offload"]) == pytest.approx(mine * (4 / 25e9 + 30 / 25e9), rel=0.01)
    assert seconds(replace(base, offload="optimizer")) > seconds(base)


def test_arrays_of_strategies_give_what_each_gives() -> None:
    tp, pp, zero = np.array([1, 2, 8, 4]), np.array([1, 3, 2, 8]), np.array([3, 1, 0, 1])
    many = TrainStrategy(tp=tp, pp=pp, dp=4, zero=zero, accumulation=8)
    each = [seconds(replace(many, tp=int(t), pp=int(p), zero=int(z))) for t, p, z in zip(tp, pp, zero, strict=True)]
    assert step_seconds(LLAMA_8B, H100, many, 4096, FABRIC) == pytest.approx(np.array(each))


def test_named_layers_equal_the_even_spread() -> None:
    even = TrainStrategy(pp=3, accumulation=6)
    named = replace(even, layers=(11, 11, 10))
    assert seconds(named) == pytest.approx(seconds(even))


def test_the_slowest_kind_sets_the_pace() -> None:
    strategy = TrainStrategy(tp=2, pp=2, accumulation=8)
    mixed = step_seconds(LLAMA_8B, ((H100, A100), (H100, A100)), strategy, 4096, FABRIC)
    alone = step_seconds(LLAMA_8B, A100, strategy, 4096, FABRIC)
    assert float(mixed) >= 0.999 * float(alone)


def test_fewer_layers_on_the_slow_stage_are_faster() -> None:
    kinds = ((H100,), (A100,))
    even, light = (
        float(step_seconds(LLAMA_8B, kinds, TrainStrategy(pp=2, accumulation=16, layers=n), 4096, FABRIC))
        for n in ((16, 16), (23, 9))
    )
    assert light < 0.75 * even
    fast, slow = stage_seconds(LLAMA_8B, kinds, TrainStrategy(pp=2, layers=(16, 16)), 4096, FABRIC)
    assert slow > 2 * fast


def test_latent_attention_with_experts_is_priced() -> None:
    strategy = TrainStrategy(pp=16, dp=64, ep=64, zero=1, accumulation=64, precision="fp8", recompute="full")
    cost = train_step(DEEPSEEK_V3, H100, strategy, 4096, FABRIC)
    assert cost.fits
    assert [m.stage for m in cost.memory] == ["first", "inner", "last"]
    assert 0.08 < cost.utilisation.mfu < 0.35


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (TrainStrategy(tp=3), "tp 3 does not divide"),
        (TrainStrategy(tp=0), "1 or more"),
        (TrainStrategy(pp=40), "40 stages for 32 layers"),
        (TrainStrategy(pp=2, layers=(20, 11)), "31 layers of 32"),
        (TrainStrategy(pp=2, layers=(32, 0)), "without layers"),
        (TrainStrategy(pp=4, interleave=2, accumulation=6), "multiples of 4"),
        (TrainStrategy(interleave=2), "need a pipeline"),
        (TrainStrategy(dp=8, ep=8), "needs experts"),
        (TrainStrategy(zero=4), "not 4"),
        (TrainStrategy(sequence_parallel=True), "needs tensor parallelism"),
    ],
)
def test_what_no_engine_can_run_is_refused(strategy: TrainStrategy, words: str) -> None:
    assert words in faults(LLAMA_8B, strategy)[0]
    with pytest.raises(ValueError, match=words):
        train_step(LLAMA_8B, H100, strategy, 4096, FABRIC)


def calibrated(**factors: float) -> Gpu:
    """An H100 with factors that were fitted to serving runs."""
    overheads = {"layer_s": 4e-5, "request_s": 2e-5, "first_token_s": 0.03, "wait_steps": 0.5, "burst": 0.05}
    fitted = {"source": "run.csv", "rows": 40, "factors": factors, **overheads}
    return with_profile(H100, Profile.model_validate({"format_version": "1.0", "gpu": "H100", "calibration": fitted}))


def test_a_step_uses_what_was_fitted_to_the_users_runs() -> None:
    parts = {
        name: step_parts(LLAMA_8B, gpu, TrainStrategy(tp=2, dp=4), 4096, FABRIC)
        for name, gpu in (("shipped", H100), ("net", calibrated(network=2.0)), ("reads", calibrated(weights=1.25)))
    }
    base = parts["shipped"]
    assert float(parts["net"]["tensor parallel"]) == pytest.approx(2 * float(base["tensor parallel"]), rel=0.01)
    assert float(parts["reads"]["memory traffic"]) == pytest.approx(1.25 * float(base["memory traffic"]), rel=0.01)


def test_slower_arithmetic_of_running_engines_counts_once() -> None:
    """In a training step products lose 23 % on an H100; only a fitted loss beyond that slows them further."""
    lost = 1 / COEF.sustained["h100"]["bf16"]
    share = {f: COEF.product_share(calibrated(compute=f), "bf16")[0] for f in (1.0, lost, 2 * lost)}
    assert share[1.0] == pytest.approx(COEF.product_share(H100, "bf16")[0])
    assert share[lost] == pytest.approx(share[1.0])
    assert share[2 * lost] == pytest.approx(share[1.0] / 2)
    assert COEF.product_share(calibrated(compute=1.0), "bf16")[1] == "profiled"
