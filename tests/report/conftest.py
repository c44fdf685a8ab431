"""Two plans made by hand: a mixed cluster with an uneven pipeline, and the quickstart on two CPU cores."""

from __future__ import annotations

import pytest

from hexdsl.ir.diagnostic import Span
from hexdsl.ir.plan import (
    Certificate,
    Decision,
    Device,
    Distribution,
    Machine,
    Memory,
    Plan,
    Precision,
    Prediction,
    Provenance,
    Replica,
    ReplicaLoad,
    Route,
    RuleCheck,
    Series,
    Simulated,
    Simulation,
    Stage,
    Term,
)
from hexdsl.ir.spec import Default
from hexdsl.ir.spec.cluster import Cluster, GpuSet, Link, Nodes, Within
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.rule import Compare, Metric, Number, Objective, Rule
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.workload import Fixed, LogNormal, Poisson, Workload

GB = 10**9
HOUR = 3600.0
H100 = Gpu(name="H100", memory=80e9, bandwidth=3.35e12, bf16=989e12, fp8=1979e12, link=900e9, price=2.9 / HOUR)
A100 = Gpu(name="A100", memory=80e9, bandwidth=2.04e12, bf16=312e12, link=600e9, price=1.6 / HOUR)
CORE = Gpu(name="cpu_core", memory=2e9, reserve=1e8, bandwidth=10e9, fp32=30e9)


UTILIZATION = Default(
    place="serve assistant",
    pin="utilization = 90%",
    description="share of a GPU's memory that the engine may fill",
)


def machine(group: str, index: int, gpu: str, count: int, host: str = "") -> Machine:
    name = f"{group}-{index}"
    devices = tuple(Device(id=f"{name}:{k}", gpu=gpu, index=k) for k in range(count))
    return Machine(id=name, group=group, host=host or name, devices=devices)


def stage(layers: tuple[int, int], place: str, indices: range, gpu: str, memory: tuple[float, ...]) -> Stage:
    capacity, weights, kv, other = (int(part * GB) for part in memory)
    held = Memory(capacity_bytes=capacity, weights_bytes=weights, kv_bytes=kv, other_bytes=other)
    return Stage(layers=layers, machine=place, devices=tuple(f"{place}:{k}" for k in indices), gpu=gpu, memory=held)


def predicted(
    metric: str, unit: str, values: tuple[float, float, float], **terms: tuple[float, Provenance]
) -> Prediction:
    parts = tuple(Term(name=n.replace("_", " "), value=v, provenance=p) for n, (v, p) in terms.items())
    return Prediction(metric=metric, unit=unit, value=values[0], low=values[1], high=values[2], terms=parts)


def direct(gpu: str, word: str) -> Precision:
    reason = f"{gpu} multiplies {word} directly"
    return Precision(gpu=gpu, weights=word, activations=word, kv=word, compute=word, reason=reason)


def decision(by: str, what: str, choice: str, reason: str) -> Decision:
    return Decision(by=by, what=what, choice=choice, reason=reason)


def tpot(mean: float) -> tuple[Prediction, ...]:
    parts: dict[str, tuple[float, Provenance]] = {
        "reading_the_weights": (mean * 0.5, "measured"),
        "prefill_of_others": (mean * 0.25, "measured"),
        "reading_the_KV_cache": (mean * 0.15, "measured"),
        "all-reduce": (mean * 0.1, "modelled"),
    }
    return (predicted("mean(tpot)", "s", (mean, mean * 0.8, mean * 1.2), **parts),)


def _certificates() -> tuple[Certificate, ...]:
    return (
        Certificate(
            of="groups",
            goal="maximize goodput",
            objective=11.6,
            bound=12.1,
            gap=0.0413,
            status="feasible",
            method="patterns per machine, then moves",
            solver="HiGHS 1.11",
            work=1240,
            exact=False,
        ),
        Certificate(
            of="route",
            goal="maximize goodput",
            objective=11.6,
            bound=11.6,
            gap=0,
            status="optimal",
            method="linear program",
            solver="HiGHS 1.11",
            work=12,
            exact=True,
        ),
    )


@pytest.fixture
def mixed() -> Plan:
    """Llama 70B on eight H100 and two machines of four A100: three replicas, one of them an uneven pipeline."""
    return Plan(
        hexc_version="0.1.0",
        spec_digest="4b1d0c5e9a72",
        name="assistant",
        workflow=_assistant(),
        defaults=(UTILIZATION,),
        machines=(
            machine("big", 0, "H100", 8, "gpu-01.lab"),
            machine("middle", 0, "A100", 4),
            machine("middle", 1, "A100", 4),
        ),
        precision=(
            direct("A100", "bf16"),
            direct("H100", "bf16"),
        ),
        context=8192,
        replicas=_replicas(),
        routes=(Route(replica="r0", weight=0.5), Route(replica="r1", weight=0.29), Route(replica="r2", weight=0.21)),
        predictions=_predictions(),
        cost_usd_per_h=30.2,
        certificates=_certificates(),
        decisions=(
            decision("groups", "replicas", "3", "two idle H100 hold 141GB of weights only without a KV cache"),
            decision("groups", "r1 layers", "46 + 34", "four A100 read their part as quickly as two H100 read theirs"),
            decision(
                "route", "routes", "50% + 29% + 21%", "in proportion to the rates at which p95(tpot) reaches 50ms"
            ),
        ),
        rules=(
            RuleCheck(text="p95(ttft) <= 400ms", line=31, value=0.31, limit=0.4, unit="s", holds=True),
            RuleCheck(text="p95(tpot) <= 50ms", line=32, value=0.05, limit=0.05, unit="s", holds=True, binding=True),
            RuleCheck(text="cost <= budget", line=33, value=30.2, limit=40, unit="usd/h", holds=True),
            RuleCheck(text="tp in [1, 2, 4]", line=34, holds=True),
        ),
        verified=("memory fits", "every layer is held once per replica", "no GPU is used twice", "rules hold"),
        notes=("H100 and A100 are joined by 200Gb/s: r1 hands 1.3MB per token of prefill across",),
    )


def _assistant() -> Serve:
    cloud = Cluster(
        name="cloud",
        nodes=(
            Nodes(name="big", gpus=GpuSet(count=8, gpu=H100), interconnect=900e9, hosts=("gpu-01.lab",)),
            Nodes(name="middle", count=2, gpus=GpuSet(count=4, gpu=A100), interconnect=600e9),
        ),
        within=(Within(name="middle", bandwidth=12.5e9),),
        links=(Link(left="big", right="middle", bandwidth=25e9, latency=20e-6),),
    )
    chat = Model(name="llama70b", layers=80, hidden=8192, heads=64, kv_heads=8, head_dim=128, ffn=28672, vocab=128256)
    online = Workload(
        name="online",
        arrivals=Poisson(rate=12.0),
        prompt=LogNormal(median=900, p95=4000),
        output=LogNormal(median=220, p95=900),
    )
    goal = Objective(
        sense="maximize", expr=Metric(name="goodput"), text="maximize goodput", span=Span("serve.hex", 35, 3)
    )
    return Serve(name="assistant", model=chat, on=cloud, workload=online, objectives=(goal,))


def _replicas() -> tuple[Replica, ...]:
    return (
        Replica(
            name="r0",
            stages=(stage((0, 80), "big-0", range(4), "H100", (80, 35.3, 30.2, 4.5)),),
            max_batch=64,
            step_tokens=2048,
            kv_tokens=368_000,
            rate_req_per_s=5.8,
            capacity_req_per_s=7.4,
            cost_usd_per_h=11.6,
            predictions=tpot(0.036),
        ),
        Replica(
            name="r1",
            stages=(
                stage((0, 46), "big-0", range(4, 6), "H100", (80, 41.3, 24.9, 4.1)),
                stage((46, 80), "middle-0", range(4), "A100", (80, 15.2, 51.5, 3.9)),
            ),
            max_batch=40,
            step_tokens=2048,
            kv_tokens=264_000,
            rate_req_per_s=3.4,
            capacity_req_per_s=4.2,
            cost_usd_per_h=12.2,
            predictions=tpot(0.041),
        ),
        Replica(
            name="r2",
            stages=(stage((0, 80), "middle-1", range(4), "A100", (80, 35.3, 30.6, 4.1)),),
            max_batch=32,
            step_tokens=2048,
            kv_tokens=373_000,
            rate_req_per_s=2.4,
            capacity_req_per_s=3.1,
            cost_usd_per_h=6.4,
            predictions=tpot(0.043),
        ),
    )


def _predictions() -> tuple[Prediction, ...]:
    return (
        predicted("p95(ttft)", "s", (0.31, 0.18, 0.41), prefill=(0.19, "measured"), waiting=(0.12, "modelled")),
        predicted(
            "p95(tpot)",
            "s",
            (0.05, 0.04, 0.06),
            reading_the_weights=(0.024, "measured"),
            prefill_of_others=(0.014, "measured"),
            reading_the_KV_cache=(0.007, "measured"),
            all_reduce=(0.005, "modelled"),
        ),
        predicted(
            "goodput", "req/s", (11.6, 9.7, 13.1), r0=(5.8, "measured"), r1=(3.4, "modelled"), r2=(2.4, "measured")
        ),
        predicted("cost", "usd/h", (30.2, 30.2, 30.2), H100=(17.4, "given"), A100=(12.8, "given")),
    )


@pytest.fixture
def played(mixed: Plan) -> Plan:
    """The mixed plan, simulated: TTFT breaks its rule, TPOT keeps its own by less than the runs differ."""
    limits = tuple(_limit("ttft", 0.4, 31) + _limit("tpot", 0.05, 32))
    workflow = mixed.workflow.with_(rules=limits)
    return mixed.with_(workflow=workflow, simulation=_simulation())


def _limit(name: str, seconds: float, line: int) -> tuple[Rule, ...]:
    expr = Compare(op="<=", left=Metric(name=name, stat="p95"), right=Number(value=seconds, unit="s"))
    text = f"p95({name}) <= {round(1000 * seconds)}ms"
    return (Rule(expr=expr, text=text, span=Span("serve.hex", line, 3)),)


def simulated(metric: str, unit: str, mean: float, low: float, high: float) -> Simulated:
    return Simulated(metric=metric, unit=unit, mean=mean, low=low, high=high)


def _simulation() -> Simulation:
    return Simulation(
        requests=900,
        seeds=3,
        warm_up_s=8.5,
        figures=(
            simulated("mean(tpot)", "s", 0.039, 0.037, 0.041),
            simulated("p95(tpot)", "s", 0.049, 0.046, 0.052),
            simulated("mean(ttft)", "s", 0.3, 0.2, 0.4),
            simulated("p95(ttft)", "s", 0.62, 0.55, 0.69),
            simulated("goodput", "req/s", 11.2, 10.9, 11.5),
            simulated("attainment", "", 0.91, 0.88, 0.94),
            simulated("slo_goodput", "req/s", 10.2, 9.9, 10.5),
            simulated("utilisation", "", 0.83, 0.8, 0.86),
            simulated("preemptions", "", 3.0, 0.0, 7.0),
            simulated("cost_per_token", "usd/tok", 2.5e-6, 2.4e-6, 2.6e-6),
            simulated("cost_per_request", "usd/req", 0.00075, 0.0007, 0.0008),
        ),
        rules=(
            RuleCheck(text="p95(ttft) <= 400ms", line=31, value=0.62, limit=0.4, unit="s", holds=False),
            RuleCheck(text="p95(tpot) <= 50ms", line=32, value=0.049, limit=0.05, unit="s", holds=True),
            RuleCheck(text="12req/s are served", line=0, value=11.2, limit=11.4, unit="req/s", holds=False),
        ),
        notes=("the simulated p95 of ttft lies above the predicted range",),
        replicas=tuple(
            ReplicaLoad(replica=f"r{i}", requests=450 - 150 * i, busy=0.9, kv_mean=0.4, kv_peak=0.75, preemptions=i)
            for i in range(3)
        ),
        shares=(0, 0.01, 0.5, 0.95, 1),
        distributions=(
            Distribution(metric="ttft", unit="s", values=(0.1, 0.11, 0.25, 0.62, 1.4)),
            Distribution(metric="tpot", unit="s", values=(0.03, 0.031, 0.038, 0.049, 0.07)),
        ),
        slice_s=20.0,
        series=tuple(
            Series(replicas=(f"r{i}",), waiting=(0, 2, 5, 0), running=(8, 60, 64, 12), kv=(0.1, 0.6, 0.75, 0.2),
                   busy=(0.5, 1, 1, 0.7))
            for i in range(3)
        ),
    )  # fmt: skip


@pytest.fixture
def quickstart() -> Plan:
    """A small model in two stages on two CPU cores: no rules, no prices."""
    laptop = Cluster(name="laptop", nodes=(Nodes(name="cpu", gpus=GpuSet(count=2, gpu=CORE), interconnect=5e9),))
    small = Model(name="smollm2_135m", layers=30, hidden=576, heads=9, kv_heads=3, ffn=1536, vocab=49152, tied=True)
    load = Workload(name="hello", prompt=Fixed(value=64), output=Fixed(value=32))
    return Plan(
        hexc_version="0.1.0",
        spec_digest="0d2f6a7be310",
        name="hello",
        workflow=Serve(name="hello", model=small, on=laptop, workload=load),
        machines=(machine("cpu", 0, "cpu_core", 2, "localhost"),),
        precision=(direct("cpu_core", "fp32"),),
        context=2048,
        replicas=(
            Replica(
                name="r0",
                stages=(
                    stage((0, 14), "cpu-0", range(1), "cpu_core", (2, 0.35, 1.2, 0.1)),
                    stage((14, 30), "cpu-0", range(1, 2), "cpu_core", (2, 0.37, 1.2, 0.1)),
                ),
                max_batch=8,
                step_tokens=2048,
                kv_tokens=65_000,
                rate_req_per_s=0.9,
                capacity_req_per_s=0.9,
                cost_usd_per_h=0,
            ),
        ),
        routes=(Route(replica="r0", weight=1),),
        predictions=(
            predicted("mean(ttft)", "s", (0.4, 0.2, 0.9), prefill=(0.4, "modelled")),
            predicted("mean(tpot)", "s", (0.03, 0.018, 0.042), reading_the_weights=(0.03, "modelled")),
        ),
        certificates=(
            Certificate(
                of="groups",
                goal="maximize throughput",
                objective=30.2,
                bound=30.2,
                gap=0,
                status="optimal",
                method="every pattern enumerated",
                solver="none",
                work=6,
                exact=True,
            ),
        ),
        decisions=(decision("groups", "r0 stages", "2", "both cores work at once on different requests"),),
        verified=("memory fits", "every layer is held once per replica"),
    )
