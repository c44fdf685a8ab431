"""What must hold for every load: conservation, order, determinism, blindness to the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_shapes import ENGINE, Plain, many, one, replica, split

from hexdsl.sim.request import Replay, Request, Status
from hexdsl.sim.simulate import Simulation, simulate
from hexdsl.sim.spec import Cluster, Failure, RouterSpec, SimConfig

CHEAP = settings(max_examples=80, deadline=None)


@st.composite
def loads(draw: st.DrawFn, most: int = 25) -> tuple[Request, ...]:
    """Bursts and gaps, short and long, some sharing prefixes."""
    gaps = draw(st.lists(st.sampled_from([0.0, 0.001, 0.05, 1.0]), min_size=1, max_size=most))
    number = st.integers(1, 300)
    requests = []
    for i, at in enumerate(np.cumsum(gaps).tolist()):
        prompt, output = draw(number), draw(st.integers(1, 80))
        family = draw(st.integers(0, 3))
        blocks = tuple(1000 * family + k for k in range(-(-prompt // 64))) if family else ()
        priority = draw(st.integers(0, 2))
        requests.append(Request(i, at, prompt, output, blocks, block_tokens=64, priority=priority))
    return tuple(requests)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Tight and roomy, one replica and many, pipelines, split pools, failures."""
    engine = replace(
        ENGINE,
        blocks=draw(st.sampled_from([26, 40, 1000])),
        max_num_seqs=draw(st.sampled_from([1, 4, 16])),
        max_num_batched_tokens=draw(st.sampled_from([64, 512])),
        prefix_caching=draw(st.booleans()),
        reserve_full_prompt=draw(st.booleans()),
        policy=draw(st.sampled_from(["fcfs", "priority"])),
        entry_s=draw(st.sampled_from([0.0, 0.02])),
    )
    times = Plain(scale=draw(st.sampled_from([(1.0,), (1.0, 0.5), (0.3, 1.0, 0.4)])))
    router = RouterSpec(draw(st.sampled_from(["weighted", "least_loaded", "prefix"])))
    kind = draw(st.sampled_from(["one", "many", "split"]))
    if kind == "split":
        base = split(draw(st.sampled_from([1e8, 1e12])), 2, 2)
        specs = tuple(replace(r, engine=engine, times=times) for r in base.replicas)
        base = replace(base, replicas=specs, router=router)
    else:
        base = Cluster(tuple(replica(f"r{i}", engine, times) for i in range(1 if kind == "one" else 3)), router)
    if draw(st.booleans()):
        name = base.replicas[draw(st.integers(0, len(base.replicas) - 1))].name
        at, down = draw(st.sampled_from([0.01, 0.3])), draw(st.sampled_from([0.5, float("inf")]))
        base = replace(base, failures=(Failure(at, name, down),))
    return base


@CHEAP
@given(loads(), clusters())
def test_every_request_ends_once_and_all_blocks_come_back(requests: tuple[Request, ...], cluster: Cluster) -> None:
    simulation = Simulation(Replay(requests), cluster, SimConfig())
    result = simulation.run()
    assert len(result.id) == len(requests)
    assert np.all(result.status != Status.unfinished)
    whole = np.minimum(result.output, cluster.replicas[0].engine.longest - result.prompt)
    assert np.array_equal(result.generated[result.done], whole[result.done])
    for node in simulation.replicas:
        node.work.pool.check()
        assert node.work.pool.used == 0
        assert node.work.seats == node.work.load == 0
        assert not node.work.waiting


@CHEAP
@given(loads(), clusters())
def test_nothing_happens_before_its_cause(requests: tuple[Request, ...], cluster: Cluster) -> None:
    result = simulate(requests, cluster)
    done = result.done
    first, finish = result.first_token_s[done], result.finish_s[done]
    assert np.all(result.arrival_s[done] <= result.scheduled_s[done])
    assert np.all(result.scheduled_s[done] < first)
    assert np.all(first <= finish)
    assert np.all(finish <= result.end_s)
    for node in result.replicas:
        assert np.all(np.diff(node.time_s) > 0)
        assert np.all((node.kv >= 0) & (node.kv <= 1))
        assert np.all(node.waiting >= 0)
        assert all(0 <= share <= 1 + 1e-9 for share in node.utilisation)


@CHEAP
@given(loads(), clusters())
def test_equal_inputs_give_equal_bytes(requests: tuple[Request, ...], cluster: Cluster) -> None:
    assert simulate(requests, cluster).to_bytes() == simulate(requests, cluster).to_bytes()


@CHEAP
@given(loads(), clusters())
def test_skipping_changes_nothing_that_matters(requests: tuple[Request, ...], cluster: Cluster) -> None:
    fast, slow = simulate(requests, cluster), simulate(requests, cluster, SimConfig(max_jump=1))
    assert np.array_equal(fast.status, slow.status)
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-3)


@CHEAP
@given(loads(), clusters(), st.integers(0, 24), st.integers(1, 100))
def test_the_scheduler_never_sees_the_output_length(
    requests: tuple[Request, ...], cluster: Cluster, which: int, more: int
) -> None:
    """With a longer answer of one request, all is as before until the moment when the short one would have ended."""
    index = which % len(requests)
    longer = tuple(replace(r, output=r.output + more) if r.id == index else r for r in requests)
    short, long = simulate(requests, cluster), simulate(longer, cluster)
    until = short.finish_s[index] if short.done[index] else 0.0
    for name in ("scheduled_s", "first_token_s"):
        a, b = getattr(short, name), getattr(long, name)
        same = np.isfinite(a) & (a < until) & (short.retries == long.retries)
        np.testing.assert_allclose(a[same], b[same], rtol=1e-9)


@CHEAP
@given(loads())
def test_work_is_conserved(requests: tuple[Request, ...]) -> None:
    """The replica is at work whenever it has something to do: with fixed step times, busy time is steps times that."""
    result = simulate(requests, one())
    node = result.replicas[0]
    pending = np.zeros(len(node.time_s), dtype=bool)
    for arrival, finish in zip(result.arrival_s, result.finish_s, strict=True):
        pending |= (node.time_s >= arrival) & (node.time_s < finish)
    assert np.all(node.running[pending] > 0)
    union, end = 0.0, -np.inf
    for arrival, finish in sorted(zip(result.arrival_s, result.finish_s, strict=True)):
        union += max(0.0, finish - max(arrival, end))
        end = max(end, finish)
    assert node.utilisation[0] * result.span_s == pytest.approx(union, rel=1e-9)


@CHEAP
@given(loads(), st.sampled_from([1, 3, 1000]))
def test_more_replicas_never_lose_requests(requests: tuple[Request, ...], jump: int) -> None:
    result = simulate(requests, many(3), SimConfig(max_jump=jump))
    assert sorted(result.id.tolist()) == [r.id for r in requests]
    assert result.done.all()
