"""A plan and a workload as a cluster and requests."""

from __future__ import annotations

import numpy as np
import pytest

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu
from hexdsl.costs.serving import Pipeline, Stage, pipeline
from hexdsl.ir.plan import Memory, Plan, Replica, Route
from hexdsl.ir.plan import Stage as PlannedStage
from hexdsl.ir.spec.workload import Constant, Fixed, Gamma, LogNormal, Poisson, RequestClass, Uniform, Workload
from hexdsl.sim.from_plan import cluster_of, requests_of
from hexdsl.sim.simulate import simulate

LINE: Pipeline = pipeline(
    [Stage((Gpu("h100_sxm", 80e9, 3.35e12, {"bf16": 989e12}),), 32)],
    [],
    Arch(32, 4096, 32, 8, 128, 14336, 128256),
    Formats(),
)
MEMORY = Memory(capacity_bytes=0, weights_bytes=0, kv_bytes=0, other_bytes=0)


def planned(name: str, machine: str) -> Replica:
    stage = PlannedStage(layers=(0, 32), machine=machine, devices=("a:0",), gpu="H100", memory=MEMORY)
    return Replica.model_construct(
        name=name, stages=(stage,), max_batch=64, kv_tokens=40_010, cost_usd_per_h=3.0, predictions=()
    )


PLAN = Plan.model_construct(
    replicas=(planned("r0", "m0"), planned("r1", "m1")),
    routes=(Route(replica="r0", weight=0.75), Route(replica="r1", weight=0.25)),
)


def test_a_plan_becomes_a_cluster_that_serves() -> None:
    cluster = cluster_of(PLAN, {"r0": LINE, "r1": LINE})
    engine = cluster.replicas[0].engine
    assert (engine.blocks, engine.max_num_seqs, cluster.replicas[1].nodes) == (2500, 64, ("m1",))
    load = requests_of(Workload(name="w", arrivals=Poisson(rate=4.0), output=Fixed(value=20)), 100, seed=1)
    result = simulate(load, cluster)
    assert result.done.all()
    assert np.bincount(result.replica).tolist() == [75, 25]


def test_a_replica_without_a_pipeline_is_an_error() -> None:
    with pytest.raises(KeyError):
        cluster_of(PLAN, {"r0": LINE})


def test_requests_have_the_lengths_and_the_rate_of_the_workload() -> None:
    lengths = {"prompt": LogNormal(median=900, p95=4000), "output": Uniform(low=100, high=300)}
    load = requests_of(Workload(name="w", arrivals=Gamma(rate=5.0, cv=2.0), **lengths), 20_000, seed=2)
    prompts, outputs = np.array([(r.prompt, r.output) for r in load]).T
    assert np.median(prompts) == pytest.approx(900, rel=0.03)
    assert np.percentile(prompts, 95) == pytest.approx(4000, rel=0.05)
    assert (outputs.min(), outputs.max()) == (100, 300)
    assert outputs.mean() == pytest.approx(200, rel=0.01)
    assert len(load) / load[-1].arrival_s == pytest.approx(5.0, rel=0.05)


def test_classes_have_lengths_of_their_own() -> None:
    code = RequestClass(name="code", share=0.25, prompt=Fixed(value=4000))
    chat = RequestClass(name="chat", share=0.75)
    load = requests_of(Workload(name="w", arrivals=Constant(rate=2.0), class_=(code, chat)), 4000, seed=3)
    assert {(r.klass, r.prompt) for r in load} == {("code", 4000), ("chat", 1000)}
    assert np.mean([r.klass == "code" for r in load]) == pytest.approx(0.25, abs=0.02)


def test_the_same_seed_gives_the_same_requests_and_another_does_not() -> None:
    work = Workload(name="w", arrivals=Poisson(rate=1.0))
    assert requests_of(work, 50, seed=4) == requests_of(work, 50, seed=4)
    assert requests_of(work, 50, seed=4) != requests_of(work, 50, seed=5)


def test_a_rate_can_be_given_and_is_needed_for_arrivals_that_are_not() -> None:
    silent = Workload(name="w", classes={"a": 0.5, "b": 0.5})
    assert {r.arrival_s for r in requests_of(silent, 10, seed=0)} == {0.0}
    assert requests_of(silent, 1000, seed=0, rate=10.0)[-1].arrival_s == pytest.approx(100, rel=0.1)
    assert {r.klass for r in requests_of(silent, 20, seed=0)} == {"a", "b"}
