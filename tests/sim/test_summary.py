"""Figures that are read off a result, and intervals over seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sim_shapes import many, one, replica, request

from hexdsl.sim.request import Status
from hexdsl.sim.simulate import simulate
from hexdsl.sim.spec import Cluster, Failure
from hexdsl.sim.summary import Limits, Summary, interval, over_seeds, series, summarise

LOAD = [request(i, at=0.1 * i, output=20, klass="ab"[i % 2]) for i in range(40)]


def test_a_summary_counts_what_happened() -> None:
    cluster = Cluster((replica("a", usd_per_h=36.0), replica("b", usd_per_h=0.0)))
    result = simulate([*LOAD, request(99, at=9.0, prompt=10**9)], cluster)
    found = summarise(result)
    assert (found.requests, found.finished, found.rejected) == (41, 40, 1)
    assert found.requests_per_s == pytest.approx(40 / result.span_s)
    assert found.output_tokens_per_s == pytest.approx(800 / result.span_s)
    assert found.cost_usd == pytest.approx(result.span_s / 100)
    assert found.usd_per_million_tokens == pytest.approx(found.cost_usd * 1250)
    assert found.latency_s.p50 == pytest.approx(float(np.median(result.latency_s[result.done])))


def test_goodput_counts_requests_within_all_limits() -> None:
    result = simulate(LOAD, one())
    middle = float(np.median(result.ttft_s))
    found = summarise(result, Limits(ttft_s=middle, latency_s=float("inf")))
    assert found.good_share == pytest.approx((result.ttft_s <= middle).mean())
    assert found.goodput_per_s == pytest.approx(found.good_share * 40 / result.span_s)
    assert summarise(result, Limits(tpot_s=0.0)).goodput_per_s == 0.0


def test_a_class_can_be_summed_up_alone() -> None:
    result = simulate(LOAD, one())
    rows = np.array([name == "a" for name in result.klass])
    assert summarise(result, rows=rows).requests == 20


def test_nothing_at_all_can_be_summed_up() -> None:
    found = summarise(simulate([], one()))
    assert (found.requests, found.requests_per_s) == (0, 0.0)
    assert np.isnan(found.ttft_s.mean)


def test_series_average_over_time() -> None:
    """The mean queue, by Little's law, is the rate times the mean wait."""
    load = [request(i, at=0.02 * i, output=40) for i in range(100)]
    result = simulate(load, one(max_num_seqs=4))
    found = series(result, slices=50)
    waits = (result.scheduled_s - result.arrival_s).sum()
    assert found.waiting.shape == (1, 50)
    assert found.waiting.mean() * result.span_s == pytest.approx(waits, rel=1e-6)
    assert found.running.max() == pytest.approx(4)


def test_a_replica_that_is_down_is_idle() -> None:
    cluster = replace(many(2), failures=(Failure(1.0, "r0"),))
    found = summarise(simulate(LOAD, cluster))
    assert found.failed == 0
    assert found.retries > 0


def test_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0, float("nan")])
    assert (found.mean, found.seeds) == (2.0, 3)
    assert found.high - found.mean == pytest.approx(4.303 / 3**0.5)
    assert interval([5.0]).low == interval([5.0]).high == 5.0


def test_over_seeds_covers_every_figure() -> None:
    def run(seed: int) -> Summary:
        rng = np.random.default_rng(seed)
        times = np.cumsum(rng.exponential(0.1, 50)).tolist()
        return summarise(simulate([request(i, at=t) for i, t in enumerate(times)], one()))

    found = over_seeds(run, range(4))
    assert set(found) == set(run(0).numbers())
    latency = found["latency_s.mean"]
    assert latency.low < latency.mean < latency.high
    assert found == over_seeds(run, range(4))
    with pytest.raises(ValueError, match="one seed"):
        over_seeds(run, ())


def test_every_status_has_its_count() -> None:
    names = {s.name for s in Status if s is not Status.unfinished}
    assert names <= set(summarise(simulate(LOAD, one())).numbers())
