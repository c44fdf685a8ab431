"""Several replicas: routers, pipelines, split prefill and decode, links, failures, sources that react."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from sim_shapes import ENGINE, Plain, many, one, replica, request, split

from hexdsl.costs.gpu import Link
from hexdsl.sim.request import Action, Cancel, ClosedLoop, Outcome, Request, Status, Wake
from hexdsl.sim.simulate import simulate
from hexdsl.sim.spec import Cluster, Failure, Route, RouterSpec, SimConfig

STEADY = [request(i, at=0.02 * i, output=30) for i in range(60)]


def test_weights_are_kept_exactly() -> None:
    cluster = replace(many(3), router=RouterSpec(weights={"r0": 3.0, "r1": 2.0, "r2": 1.0}))
    assert Counter(simulate(STEADY, cluster).replica.tolist()) == {0: 30, 1: 20, 2: 10}


def test_a_replica_without_weight_gets_nothing() -> None:
    cluster = replace(many(2), router=RouterSpec(weights={"r0": 0.0}))
    assert set(simulate(STEADY, cluster).replica.tolist()) == {1}


def test_least_loaded_avoids_the_slow() -> None:
    slow = replica("slow", times=Plain(fixed_s=0.2))
    cluster = Cluster((slow, replica("fast")), RouterSpec("least_loaded"))
    found = Counter(simulate(STEADY, cluster).replica.tolist())
    assert found[1] > 1.5 * found[0]


def test_the_prefix_router_sends_families_home() -> None:
    load = [
        request(i, at=0.3 * i, prompt=256, output=4, blocks=(i % 3, 10 + i % 3), block_tokens=128) for i in range(30)
    ]
    home, anywhere = (simulate(load, many(2, policy)) for policy in ("prefix", "weighted"))
    assert home.cached.sum() > anywhere.cached.sum()
    assert home.cached[3:].min() > 0


def test_a_request_can_be_pinned_to_a_replica_or_a_model() -> None:
    specs = (replica("a", model="small"), replica("b", model="large"))
    load = [request(0, pin="b"), request(1, pin="small"), request(2, pin="nowhere")]
    result = simulate(load, Cluster(specs))
    assert result.replica.tolist() == [1, 0, -1]
    assert result.status[2] == Status.rejected


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.2, 1.0, 0.5)])
def test_a_pipeline_goes_at_the_pace_of_its_slowest_stage(scale: tuple[float, ...]) -> None:
    """Many short requests: what the slowest stage does takes nearly all the time, and the others wait for it."""
    load = [request(i, prompt=20, output=50) for i in range(64)]
    result = simulate(load, Cluster((replica(times=Plain(scale=scale)),)))
    busy = result.replicas[0].utilisation
    assert max(busy) > 0.9
    np.testing.assert_allclose(np.array(busy) / max(busy), np.array(scale) / max(scale), rtol=1e-6)


def test_one_sequence_in_a_pipeline_passes_all_stages() -> None:
    alone = simulate([request(0)], Cluster((replica(times=Plain(scale=(0.4, 0.6))),)))
    whole = simulate([request(0)], one())
    assert alone.finish_s[0] == pytest.approx(whole.finish_s[0])


def test_computing_ahead_changes_nothing_in_a_pipeline() -> None:
    load = [request(i, at=0.13 * i, prompt=90 + i, output=120) for i in range(40)]
    cluster = Cluster((replica(engine=replace(ENGINE, blocks=120), times=Plain(scale=(1.0, 0.3, 0.8))),))
    fast, slow = simulate(load, cluster), simulate(load, cluster, SimConfig(max_jump=1))
    np.testing.assert_allclose(fast.finish_s, slow.finish_s, rtol=1e-9)
    np.testing.assert_allclose(fast.replicas[0].utilisation, slow.replicas[0].utilisation, rtol=1e-9)
    assert fast.replicas[0].kv_mean == pytest.approx(slow.replicas[0].kv_mean, rel=0.02)
    assert fast.preemptions.sum() == slow.preemptions.sum() > 0


def test_the_kv_cache_travels_between_first_and_second_token() -> None:
    """100 tokens of 1 MB over 100 MB/s take a second, which only the tokens after the first feel."""
    slow, fast = (simulate([request(0)], split(bandwidth)) for bandwidth in (1e8, 1e15))
    assert slow.first_token_s[0] == fast.first_token_s[0]
    assert slow.finish_s[0] - fast.finish_s[0] == pytest.approx(1.0, rel=1e-6)
    assert slow.replica[0] == 1


def test_transfers_share_a_link() -> None:
    """Two at once take twice as long as one."""
    both = simulate([request(0), request(1)], split(1e8, prefills=2, decodes=2))
    single = simulate([request(0)], split(1e8))
    assert both.finish_s[0] - single.finish_s[0] == pytest.approx(1.0, rel=1e-6)
    assert both.link_utilisation["wire"] == pytest.approx(2.0 / both.span_s, rel=1e-3)


def test_a_short_transfer_is_not_held_up_by_a_long_one() -> None:
    """Of 100 MB and 300 MB that share 100 MB/s, the short one ends after 2 s and the long one after 4."""
    load = [request(0, prompt=100, output=2), request(1, prompt=300, output=2)]
    fast = simulate(load, split(1e15, prefills=2, decodes=2))
    slow = simulate(load, split(1e8, prefills=2, decodes=2))
    start = fast.first_token_s
    gap = (slow.finish_s - fast.finish_s).round(6)
    early = 100 - (start[1] - start[0]) * 100
    assert gap[0] == pytest.approx(1.0 + early / 100, abs=0.02)
    assert gap[1] == pytest.approx(3.0 + 1.0 - (start[1] - start[0]), abs=0.02)


def test_pairs_choose_the_decode_replica() -> None:
    cluster = split(1e12, prefills=1, decodes=2)
    cluster = replace(cluster, router=RouterSpec(pairs={("p0", "d0"): 1.0, ("p0", "d1"): 3.0}))
    found = Counter(simulate(STEADY, cluster).replica.tolist())
    assert found == {1: 15, 2: 45}


def test_a_decode_replica_without_room_keeps_the_blocks_at_the_prefill() -> None:
    result = simulate([request(i, output=40) for i in range(8)], split(1e12, blocks=24))
    assert result.done.all()
    assert result.replicas[1].kv_peak > 0.9


def test_requests_of_a_failed_replica_are_served_by_the_others() -> None:
    cluster = replace(many(2), failures=(Failure(0.3, "r0"),))
    result = simulate(STEADY, cluster)
    assert result.done.all()
    assert result.retries.sum() > 0
    assert set(result.replica[result.retries > 0].tolist()) == {1}
    assert np.all(result.replica[result.arrival_s > 0.3] == 1)


def test_a_node_takes_all_its_replicas_with_it() -> None:
    specs = tuple(replica(f"r{i}", nodes=("n0",) if i < 2 else ("n1",)) for i in range(3))
    result = simulate(STEADY, Cluster(specs, failures=(Failure(0.3, "n0"),)))
    assert np.all(result.replica[result.arrival_s > 0.3] == 2)


def test_without_a_replica_requests_fail_or_wait_for_the_repair() -> None:
    gone = simulate(STEADY, replace(one(), failures=(Failure(0.3, "a"),)))
    assert np.all(gone.status[gone.arrival_s > 0.3] == Status.failed)
    back = simulate(STEADY, replace(one(), failures=(Failure(0.3, "a", down_s=5.0),)))
    assert back.done.all()
    assert np.all(back.scheduled_s[back.arrival_s > 0.3] >= 5.3)


@pytest.mark.parametrize("name", ["p0", "d0"])
def test_either_side_of_a_split_may_fail(name: str) -> None:
    cluster = replace(split(1e9, prefills=2, decodes=2), failures=(Failure(0.4, name),))
    result = simulate(STEADY, cluster)
    assert result.done.all()
    assert result.retries.sum() > 0


def test_a_closed_loop_keeps_its_clients_busy() -> None:
    result = simulate(ClosedLoop([request(i) for i in range(20)], 4), one())
    running = (result.arrival_s[:, None] <= result.finish_s[None, :]) & (
        result.finish_s[:, None] > result.finish_s[None, :]
    )
    assert result.done.all()
    assert running.sum(axis=0).max() == 4
    assert np.sort(result.arrival_s)[4:].tolist() == np.sort(result.finish_s)[:16].tolist()


class Race:
    """Two answers to a question: the first that is there wins, and a check follows a second later."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, Status]] = []
        self.woken_at = -1.0

    def start(self) -> Iterable[Request]:
        return (request(0, output=10), request(1, output=400))

    def ended(self, outcome: Outcome) -> Iterable[Action]:
        self.ends.append((outcome.request.id, outcome.status))
        if outcome.request.id == 0:
            yield Cancel(1)
            yield Wake(outcome.time_s + 1.0)

    def woken(self, now_s: float) -> Iterable[Action]:
        self.woken_at = now_s
        yield request(2, at=now_s + 0.5)


@pytest.mark.parametrize("scale", [(1.0,), (0.5, 0.5)])
def test_a_source_can_react_cancel_and_wait(scale: tuple[float, ...]) -> None:
    race = Race()
    result = simulate(race, Cluster((replica(times=Plain(scale=scale)),)))
    assert race.ends == [(0, Status.finished), (1, Status.cancelled), (2, Status.finished)]
    assert race.woken_at == pytest.approx(result.finish_s[0] + 1.0)
    assert result.arrival_s[2] == race.woken_at + 0.5
    assert 10 <= result.generated[1] < 15


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"router": RouterSpec(weights={"x": 1.0})}, "weight names `x`"),
        ({"failures": (Failure(1.0, "x"),)}, "failure names `x`"),
        ({"routes": (Route("a", "a", ("wire",)),), "links": {"net": Link(1e9)}}, "link names `wire`"),
        ({"replicas": ()}, "needs replicas"),
    ],
)
def test_clusters_that_name_nobody_are_refused(change: dict, told: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=told):
        replace(one(), **change)
