"""No replica beats the bound: random shapes, batches and loads."""

from __future__ import annotations

import random

import pytest
from costs_shapes import A100, CPU, DEEPSEEK_V3, ETHERNET, H100, L40S, LLAMA_70B, MIXTRAL, NVLINK, PCIE4, UNKNOWN

from hexdsl.costs.arch import Arch
from hexdsl.costs.bound import rate_bound, work_per_request
from hexdsl.costs.gpu import Formats
from hexdsl.costs.memory import Engine
from hexdsl.costs.serving import Load, Stage, pipeline

FORMATS = (Formats(), Formats("fp8", "fp8", "fp8"), Formats("int4", "bf16", "bf16"))


def random_stages(rng: random.Random, arch: Arch) -> list[Stage]:
    cuts = sorted(rng.sample(range(1, arch.layers), rng.randint(0, 4)))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, arch.layers], strict=True)]
    return [
        Stage(
            tuple(rng.choices((A100, H100, L40S, UNKNOWN), k=rng.choice((1, 2, 4, 8)))), n, rng.choice((NVLINK, PCIE4))
        )
        for n in sizes
    ]


@pytest.mark.parametrize("arch", [LLAMA_70B, MIXTRAL, DEEPSEEK_V3])
def test_no_random_replica_beats_the_bound(arch: Arch) -> None:
    rng = random.Random(arch.layers)
    closest = 0.0
    for _ in range(150):
        stages, formats = random_stages(rng, arch), rng.choice(FORMATS)
        hops = [rng.choice((NVLINK, ETHERNET)) for _ in stages[1:]]
        load = Load(rng.randint(1, 8000), rng.randint(1, 2000))
        batch = rng.choice((1, 7, 64, 256))
        rate = float(pipeline(stages, hops, arch, formats).rate(batch, load))
        bound = rate_bound([g for s in stages for g in s.gpus], arch, formats, load)
        assert rate <= bound
        closest = max(closest, rate / bound)
    assert closest > 0.3


def test_the_bound_is_nearly_reached_by_one_gpu_at_the_largest_batch() -> None:
    load = Load(1000, 200)
    rate = float(pipeline([Stage((H100,), 80)], [], LLAMA_70B, Formats()).rate(256, load))
    bound = rate_bound([H100], LLAMA_70B, Formats(), load)
    assert 0.9 * bound < rate <= bound


def test_two_replicas_together_stay_below_the_bound() -> None:
    load = Load(500, 300)
    lines = [pipeline([Stage((gpu,) * 4, 80, NVLINK)], [], LLAMA_70B, Formats()) for gpu in (A100, H100)]
    total = sum(float(line.rate(256, load)) for line in lines)
    assert total <= rate_bound([A100] * 4 + [H100] * 4, LLAMA_70B, Formats(), load)


def test_a_smaller_largest_batch_costs_more_work() -> None:
    load = Load(1000, 200)
    works = [work_per_request(H100, LLAMA_70B, Formats(), load, Engine(max_batch=b)).total_s for b in (8, 64, 256)]
    assert works == sorted(works, reverse=True)


def test_work_splits_into_phases() -> None:
    work = work_per_request(CPU, LLAMA_70B, Formats("fp32", "fp32", "fp32"), Load(1000, 200))
    assert work.total_s == work.prefill_s + work.decode_s
    assert work.prefill_s > 0
