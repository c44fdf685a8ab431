"""A plan and a workload as a cluster and requests."""

from __future__ import annotations

import numpy as np
import pytest

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu
from hexdsl.costs.serving import Pipeline, Stage, pipeline
from hexdsl.ir.plan import Memory, Plan, Replica, Route
from hexdsl.ir.plan import Stage as PlannedStage
from hexdsl.ir.spec.workload import (
    Constant,
    Empirical,
    Fixed,
    Gamma,
    LogNormal,
    Poisson,
    Recorded,
    RequestClass,
    Uniform,
    Workload,
)
from hexdsl.ir.trace import Rows
from hexdsl.sim.from_plan import PLAIN, Scenario, cluster_of, requests_of
from hexdsl.sim.simulate import simulate
from hexdsl.sim.spec import Failure
from hexdsl.sim.trace import trace_of

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
        name=name, stages=(stage,), max_batch=64, step_tokens=2048, kv_tokens=40_010, cost_usd_per_h=3.0, predictions=()
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


ROWS = Rows((100, 200, 300, 400), (1, 2, 3, 4), (0.0, 1.0, 5.0, 6.0), ((1,), (1, 2), (1, 3), (1, 4)))
TRACE = trace_of(ROWS, "day.csv")
TAKEN = {"arrivals": Recorded.of(ROWS.arrival_s or ()), "prompt": Empirical.of(ROWS.prompt)}


def test_a_trace_is_played_as_it_was_recorded() -> None:
    work = Workload(name="w", output=Empirical.of(ROWS.output), **TAKEN)
    scenario = Scenario(TRACE)
    assert scenario.requests(work, 4, 0, 1) == TRACE.requests
    later = scenario.requests(work, 2, 1, 2)
    assert [(r.arrival_s, r.prompt, r.output) for r in later] == [(0.0, 300, 3), (1.0, 400, 4)]


def test_what_is_written_beside_a_trace_is_drawn() -> None:
    work = Workload(name="w", arrivals=Constant(rate=10.0), prompt=Fixed(value=50), output=Empirical.of(ROWS.output))
    found = Scenario(TRACE).requests(work, 4, 0, 1)
    assert [r.arrival_s for r in found] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert {(r.prompt, r.blocks) for r in found} == {(50, ())}
    assert [r.output for r in found] == [1, 2, 3, 4]


def test_windows_of_a_trace_never_overlap() -> None:
    assert Scenario(TRACE).fitting(2, 3) == (2, 2)
    assert Scenario(TRACE).fitting(1000, 3) == (4, 1)
    assert PLAIN.fitting(1000, 3) == (1000, 3)


def test_without_the_file_requests_are_drawn_from_its_figures() -> None:
    rng = np.random.default_rng(1)
    gaps, lengths = rng.gamma(0.25, 2.0, 4000), rng.integers(10, 1000, 4000)
    taken = {"arrivals": Recorded.of(np.cumsum(gaps).tolist()), "prompt": Empirical.of(lengths.tolist())}
    load = requests_of(Workload(name="w", **taken), 20_000, seed=1)
    assert len(load) / load[-1].arrival_s == pytest.approx(1 / gaps.mean(), rel=0.06)
    assert np.quantile([r.prompt for r in load], [0.5, 0.95]) == pytest.approx(
        np.quantile(lengths, [0.5, 0.95]), rel=0.03
    )


def test_a_failure_moves_requests_to_the_other_replica() -> None:
    lines = {"r0": LINE, "r1": LINE}
    load = requests_of(Workload(name="w", arrivals=Constant(rate=4.0), output=Fixed(value=20)), 100, seed=1)
    result = simulate(load, cluster_of(PLAN, lines, failures=(Failure(5.0, "m0"),)))
    assert set(result.replica[result.arrival_s > 5.0].tolist()) == {1}
    with pytest.raises(ValueError, match="failure names"):
        cluster_of(PLAN, lines, failures=(Failure(5.0, "m9"),))
