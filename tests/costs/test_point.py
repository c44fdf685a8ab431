"""One operating point: its parts add up, and nothing is faster than the datasheet."""

from __future__ import annotations

import pytest
from costs_shapes import CPU, H100, L40S, LLAMA_8B, LLAMA_70B, MIXTRAL, NVLINK, QWEN_HALF_B

from hexdsl.costs.gpu import Formats
from hexdsl.costs.memory import Engine
from hexdsl.costs.point import Replica, estimate
from hexdsl.costs.serving import Load

REPLICAS = {
    "one GPU": Replica(LLAMA_8B, H100, Formats()),
    "tensor parallel": Replica(LLAMA_70B, H100, Formats("fp8", "fp8"), 8, 1, NVLINK),
    "pipeline": Replica(LLAMA_70B, L40S, Formats("fp8", "fp8"), 2, 3),
    "mixture": Replica(MIXTRAL, H100, Formats(), 4, 1, NVLINK),
    "CPU": Replica(QWEN_HALF_B, CPU, Formats("fp32", "fp32", "fp32")),
}


@pytest.mark.parametrize("name", REPLICAS)
def test_operations_add_up_and_no_one_beats_the_datasheet(name: str) -> None:
    found = estimate(REPLICAS[name], Load(1000, 200), 8)
    assert sum(o.seconds for o in found.operations) == pytest.approx(found.tpot.value)
    assert all(0 < o.roofline <= 1 + 1e-9 for o in found.operations if o.roofline is not None and o.name != "compute")
    assert 0 < found.roofline <= 1
    assert found.ttft.low <= found.ttft.value <= found.ttft.high


def test_stages_share_the_layers() -> None:
    uneven = Replica(LLAMA_70B, H100, Formats(), 1, 3)
    assert uneven.layers == (27, 27, 26)
    assert [(p.start, p.stop) for p in uneven.slices] == [(0, 27), (27, 54), (54, 80)]


def test_memory_by_part() -> None:
    found = estimate(REPLICAS["one GPU"], Load(1000, 200), 8)
    memory = found.memory
    assert memory.weights == pytest.approx(16.06e9, rel=0.01)
    assert memory.kv == pytest.approx(8 * 1200 * 2 * 32 * 8 * 128 * 2)
    parts = memory.weights + memory.kv_room + memory.activations + memory.buffers + memory.reserve
    assert parts == pytest.approx(memory.usable)


def test_requests_beyond_the_kv_cache_wait() -> None:
    found = estimate(REPLICAS["one GPU"], Load(30_000, 1000), 64)
    assert found.fits
    assert 1 < found.running < 64
    assert found.tpot.value == pytest.approx(
        estimate(REPLICAS["one GPU"], Load(30_000, 1000), found.running).tpot.value
    )


def test_a_model_that_does_not_fit() -> None:
    assert not estimate(Replica(LLAMA_70B, H100, Formats()), Load(1000, 200), 1).fits
    assert not estimate(REPLICAS["one GPU"], Load(1000, 200), 1, Engine(utilisation=0.2)).fits
