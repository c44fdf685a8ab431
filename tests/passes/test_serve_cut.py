"""What binds: the minimum cut against maximum flow by another method, and where the pace of a replica comes from."""

from __future__ import annotations

import networkx as nx
import pytest
from serve_cases import planned, small_case

from hexdsl.api import load_text
from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Plan
from hexdsl.passes.serve.cut import SINK, SOURCE, UNITS, bottleneck, flow_network
from hexdsl.passes.serve.problem import problem_of

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster lab {{
  nodes fast {{ count = 2, gpus = 1 * H100 }}
  nodes wide {{ count = 2, gpus = 1 * A6000 }}
  within fast {{ bandwidth = {link}, latency = 50us }}
  within wide {{ bandwidth = {link}, latency = 50us }}
  fast <-> wide {{ bandwidth = {link}, latency = 50us }}
}}
workload chat {{ arrivals = poisson({rate}req/s), prompt = 2000tok, output = {output}tok }}
serve s {{
  model = llama8b
  on = lab
  workload = chat
  pp == 1
  p95(ttft) <= {ttft}ms
  p95(tpot) <= 40ms
  phase prefill {{}}
  maximize goodput
}}
"""
BASE = {"link": "100Gb/s", "rate": 1000, "output": 200, "ttft": 500}
GIVEN = ({}, {"link": "1Gb/s"}, {"output": 600}, {"rate": 3}, {"ttft": 2000})


def plan_of(**given: object) -> Plan:
    return planned(load_text(SPEC.format(**(BASE | given))).spec)


@pytest.mark.parametrize("given", GIVEN)
def test_the_cut_is_the_flow_and_what_is_served(given: dict[str, object]) -> None:
    plan = plan_of(**given)
    found = bottleneck(plan)
    graph = flow_network(plan, problem_of(plan))
    flow = nx.maximum_flow_value(graph, SOURCE, SINK, flow_func=nx.algorithms.flow.edmonds_karp) / UNITS
    assert found.flow_req_per_s == pytest.approx(flow, rel=1e-9)
    for edges in (found.edges, found.also or found.edges):
        assert sum(e.capacity_req_per_s for e in edges) == pytest.approx(flow, rel=1e-5)
    assert plan.served_req_per_s == pytest.approx(flow, rel=1e-4)


def test_a_load_that_is_met_is_what_binds() -> None:
    assert [e.what for e in bottleneck(plan_of(rate=1)).edges] == ["arrivals"]


def test_more_of_what_does_not_bind_gives_nothing() -> None:
    plan = plan_of()
    binding = {n for e in bottleneck(plan).edges for n in e.names}
    free = [r for r in plan.replicas if r.name not in binding]
    assert binding
    assert free
    for r in free:
        more = r.with_(capacity_req_per_s=1.001 * r.capacity_req_per_s)
        raised = plan.with_(replicas=tuple(more if q.name == r.name else q for q in plan.replicas))
        gained = bottleneck(raised).flow_req_per_s - bottleneck(plan).flow_req_per_s
        assert gained == pytest.approx(0, abs=2 / UNITS * len(plan.replicas))


def test_a_narrow_link_binds() -> None:
    plan = plan_of(link="100Gb/s")
    cluster = plan.workflow.on
    slow = cluster.with_(
        links=tuple(x.with_(bandwidth=1e5) for x in cluster.links),
        within=tuple(x.with_(bandwidth=1e5) for x in cluster.within),
    )
    apart = plan.with_(workflow=plan.workflow.with_(on=slow))
    assert {r.role for r in plan.replicas} >= {"prefill", "decode"}
    assert "link" in {e.what for e in bottleneck(apart).edges}


def test_replicas_without_phases_add_up() -> None:
    compared = 0
    for seed in range(8):
        try:
            plan = small_case(seed, "throughput").plan()
        except NoPlanError:
            continue
        found = bottleneck(plan)
        assert found.flow_req_per_s == pytest.approx(sum(r.capacity_req_per_s for r in plan.replicas), rel=1e-3)
        assert {n for e in found.edges for n in e.names} == {r.name for r in plan.replicas}
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("given", GIVEN)
def test_shares_of_the_pace_add_up(given: dict[str, object]) -> None:
    plan = plan_of(**given)
    for pace in bottleneck(plan).paces:
        assert 0.97 <= sum(s.share for s in pace.shares) <= 1.001
        assert list(pace.shares) == sorted(pace.shares, key=lambda s: -s.share)
        tokens = problem_of(plan).output
        if pace.role != "prefill":
            assert pace.together / (pace.seconds * tokens) == pytest.approx(pace.capacity_req_per_s, rel=1e-6)
        else:
            assert pace.capacity_req_per_s * pace.seconds <= 1
