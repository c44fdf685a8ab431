"""Plans made by hand: two uneven CPU stages; two replicas on GPUs, one with shared layers; prefill and decode apart."""

from __future__ import annotations

import pytest

from hexdsl.ir.plan import (
    Decision,
    Device,
    Machine,
    Memory,
    Plan,
    Precision,
    Prediction,
    Replica,
    Route,
    RuleCheck,
    Stage,
)
from hexdsl.ir.spec.cluster import Cluster, GpuSet, Nodes
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import Format, Model
from hexdsl.ir.spec.serve import Serve

CORE = Gpu(name="cpu_core", memory=2e9, bandwidth=10e9, fp32=30e9)
H100 = Gpu(name="H100", memory=80e9, bandwidth=3.35e12, bf16=989e12, sm=90)


def machine(name: str, gpu: str, count: int, host: str = "") -> Machine:
    devices = tuple(Device(id=f"{name}:{k}", gpu=gpu, index=k) for k in range(count))
    return Machine(id=name, group=name.rpartition("-")[0], host=host or name, devices=devices)


def stage(layers: tuple[int, int], place: str, gpu: str, indices: range) -> Stage:
    memory = Memory(
        capacity_bytes=2 * 10**9, weights_bytes=10**6 * (layers[1] - layers[0]), kv_bytes=5 * 10**8, other_bytes=0
    )
    return Stage(layers=layers, machine=place, devices=tuple(f"{place}:{k}" for k in indices), gpu=gpu, memory=memory)


def precision(gpu: str, kind: str) -> Precision:
    return Precision(
        gpu=gpu, weights=kind, activations=kind, kv=kind, compute=kind, reason=f"{gpu} multiplies {kind} directly"
    )


def replica(name: str, *stages: Stage) -> Replica:
    return Replica(
        name=name,
        stages=stages,
        max_batch=4,
        step_tokens=512,
        kv_tokens=4096,
        rate_req_per_s=1,
        capacity_req_per_s=1.5,
        cost_usd_per_h=0,
    )


def tiny_model(kind: str) -> Model:
    return Model(
        name="tiny", path="models/tiny", family="LlamaForCausalLM", layers=4, hidden=128, heads=4, kv_heads=2, ffn=256,
        vocab=357, weights=Format.model_validate({"kind": kind}),
    )  # fmt: skip


@pytest.fixture
def uneven() -> Plan:
    """Layers 0 to 2 on one CPU machine and layer 3 on another, both emulated here."""
    cluster = Cluster(
        name="lab",
        nodes=(Nodes(name="fast", gpus=GpuSet(count=1, gpu=CORE)), Nodes(name="slow", gpus=GpuSet(count=1, gpu=CORE))),
    )
    return Plan(
        hexc_version="0.1.0",
        spec_digest="0d2f6a7be310",
        name="hello",
        workflow=Serve(name="hello", model=tiny_model("fp32"), on=cluster),
        machines=(machine("fast-0", "cpu_core", 1), machine("slow-0", "cpu_core", 1)),
        precision=(precision("cpu_core", "fp32"),),
        context=512,
        replicas=(
            replica("r0", stage((0, 3), "fast-0", "cpu_core", range(1)), stage((3, 4), "slow-0", "cpu_core", range(1))),
        ),
        routes=(Route(replica="r0", weight=1),),
        predictions=(Prediction(metric="p95(ttft)", unit="s", value=0.31, low=0.18, high=0.41),),
        decisions=(
            Decision(by="groups", what="r0 layers", choice="3 + 1", reason="`fast` reads three times as quickly"),
        ),
        rules=(RuleCheck(text="p95(ttft) <= 400ms", line=12, value=0.31, limit=0.4, unit="s", holds=True),),
    )


@pytest.fixture
def gpus() -> Plan:
    """Two replicas on one machine of four GPUs: one pair shares every layer, one pair splits the layers."""
    cluster = Cluster(name="lab", nodes=(Nodes(name="big", gpus=GpuSet(count=4, gpu=H100), hosts=("gpu-01.lab",)),))
    return Plan(
        hexc_version="0.1.0",
        spec_digest="4b1d0c5e9a72",
        name="assistant",
        workflow=Serve(name="assistant", model=tiny_model("bf16"), on=cluster),
        machines=(machine("big-0", "H100", 4, "gpu-01.lab"),),
        precision=(precision("H100", "bf16"),),
        context=512,
        replicas=(
            replica("r0", stage((0, 4), "big-0", "H100", range(2))),
            replica("r1", stage((0, 3), "big-0", "H100", range(2, 3)), stage((3, 4), "big-0", "H100", range(3, 4))),
        ),
        routes=(Route(replica="r0", weight=0.625), Route(replica="r1", weight=0.375)),
    )


@pytest.fixture
def halves(gpus: Plan) -> Plan:
    """Weights in fp8; two GPUs that share each layer prefill, and of two more each decodes."""
    return gpus.with_(
        workflow=gpus.workflow.with_(model=tiny_model("fp8")),
        precision=(precision("H100", "fp8").with_(kv="bf16"),),
        replicas=(
            replica("r0", stage((0, 4), "big-0", "H100", range(2))).with_(role="prefill"),
            replica("r1", stage((0, 4), "big-0", "H100", range(2, 3))).with_(role="decode"),
            replica("r2", stage((0, 4), "big-0", "H100", range(3, 4))).with_(role="decode"),
        ),
        routes=tuple(Route(replica=f"r{k}", weight=weight) for k, weight in enumerate((1, 0.625, 0.375))),
    )
