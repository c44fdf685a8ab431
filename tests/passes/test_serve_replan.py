"""Light re-plans: what may change, against the enumeration of every choice of phases."""

from __future__ import annotations

from itertools import product

import networkx as nx
import pytest

from hexdsl.api import load_text, plan
from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Plan, Replica
from hexdsl.ir.replan import Replan
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.inventory import machines_left
from hexdsl.passes.serve.candidates import quickest, space_over
from hexdsl.passes.serve.handover import most_handed, place_of
from hexdsl.passes.serve.phases import prefill_as_loaded
from hexdsl.passes.serve.points import Pricer
from hexdsl.passes.serve.problem import problem_of
from hexdsl.passes.serve.replan import kinds_of, most_served, replan
from hexdsl.passes.serve.rules import latencies_in, rules_of
from hexdsl.passes.serve.started import new_replicas

SPEC = """import "std/gpus.hex"
import "std/models.hex"
cluster c {{
  nodes a {{ count = 2, gpus = 1 * L40S, nic = {nic}, price = $1/gpu/h }}
  nodes b {{ count = 2, gpus = 1 * A6000, nic = {nic}, price = $0.5/gpu/h }}
  a <-> b {{ bandwidth = {nic} }}
}}
workload w {{ arrivals = poisson({rate}req/s), prompt = {prompt}tok, output = {output}tok }}
serve s {{ model = llama8b, on = c, workload = w
  phase prefill {{}}
  phase decode {{}}
  {rules}
  maximize goodput }}
"""
CASES = [
    {"nic": "10Gb/s", "rate": 100, "prompt": 2000, "output": 50, "rules": ""},
    {"nic": "10Gb/s", "rate": 100, "prompt": 300, "output": 300, "rules": "p95(tpot) <= 40ms"},
    {"nic": "1Gb/s", "rate": 3, "prompt": 3000, "output": 100, "rules": "p95(ttft) <= 2s"},
    {"nic": "100Mb/s", "rate": 100, "prompt": 1000, "output": 200, "rules": ""},
]


@pytest.fixture(scope="module", params=range(len(CASES)))
def before(request: pytest.FixtureRequest) -> Plan:
    return plan(load_text(SPEC.format(**CASES[request.param])))


def after(before: Plan, lost: tuple[str, ...] = (), rate: float = 1.0, added: int = 0) -> Plan:
    """The plan with other machines and another load, without replicas."""
    serve = before.workflow
    assert isinstance(serve, Serve)
    assert serve.workload
    assert serve.workload.arrivals
    arrivals = serve.workload.arrivals.with_(rate=serve.workload.arrivals.rate * rate)
    nodes = tuple(n.with_(count=n.count + added) if n.name == "a" else n for n in serve.on.nodes)
    changed = serve.with_(workload=serve.workload.with_(arrivals=arrivals), on=serve.on.with_(nodes=nodes))
    now = before.with_(workflow=changed, lost=lost, replicas=(), routes=(), handovers=(), certificates=(), decisions=())
    return now.with_(machines=machines_left(now))


def enumerated(now: Plan, replicas: list[Replica]) -> float:
    """The most requests/s over every choice of a role (or none) for each replica, by maximum flow."""
    problem = problem_of(now)
    rules, pricer = rules_of(problem.serve), Pricer(problem, fine=True)
    named = latencies_in(rules, ())
    options: list[list[tuple[str, float, tuple[int, ...]]]] = []
    for kind, members in kinds_of(replicas, now, problem).items():
        held = (kind.shape, kind.layers, kind.kv_tokens)
        points = [prefill_as_loaded(pricer, *held), *(pricer.as_loaded(*held, r) for r in ("both", "decode"))]
        space = space_over(pricer, named, [p for p in points if p is not None], complete=True)
        best = quickest(space, space.meeting(rules))
        options += [[(c.role, c.rate, place_of(c.shape)) for c in best if c]] * len(members)
    return max(flow(choice, problem) for choice in product(*([("none", 0.0, ()), *some] for some in options)))


def flow(choice: tuple[tuple[str, float, tuple[int, ...]], ...], problem: object) -> float:
    graph = nx.DiGraph()
    graph.add_edge("in", "start", capacity=problem.arrivals)  # type: ignore[attr-defined]
    graph.add_node("out")
    for i, (role, rate, place) in enumerate(choice):
        if role == "both":
            graph.add_edge("start", i, capacity=rate)
            graph.add_edge(i, "out", capacity=rate)
        if role == "prefill":
            graph.add_edge("start", i, capacity=rate)
            for j, (other, most, there) in enumerate(choice):
                if other == "decode":
                    graph.add_edge(i, j, capacity=most_handed(problem, place, there))  # type: ignore[arg-type]
                    graph.add_edge(j, "out", capacity=most)
    return float(nx.maximum_flow_value(graph, "in", "out"))


def check(before: Plan, now: Plan, made: Replan) -> None:
    left = [r for r in before.replicas if all(s.machine in {m.id for m in now.machines} for s in r.stages)]
    if not made.broken:
        assert made.served_after_req_per_s == pytest.approx(enumerated(now, left), rel=1e-4)
        bound = most_served(now)
        assert bound is not None
        assert made.served_after_req_per_s <= bound * (1 + 1e-6)
    kept = {r.name: tuple((s.devices, s.layers) for s in r.stages) for r in before.replicas}
    for replica in made.plan.replicas:
        assert kept[replica.name] == tuple((s.devices, s.layers) for s in replica.stages)
        assert replica.kv_tokens == next(r.kv_tokens for r in before.replicas if r.name == replica.name)


def test_where_nothing_changes_nothing_changes(before: Plan) -> None:
    made = replan(before, after(before))
    assert {m.fate for m in made.replicas} == {"goes on"}
    assert made.served_after_req_per_s == pytest.approx(before.served_req_per_s, rel=0.05)


@pytest.mark.parametrize("lost", [("a-0",), ("b-1",), ("a-0", "a-1")])
def test_losses_are_planned_around_as_well_as_phases_and_routes_allow(before: Plan, lost: tuple[str, ...]) -> None:
    now = after(before, lost)
    if all(any(s.machine in lost for s in r.stages) for r in before.replicas):
        with pytest.raises(NoPlanError):
            replan(before, now)
        return
    made = replan(before, now)
    check(before, now, made)
    gone = {m.replica for m in made.replicas if m.fate == "lost"}
    assert gone == {r.name for r in before.replicas if any(s.machine in lost for s in r.stages)}


@pytest.mark.parametrize("rate", [0.3, 3.0])
def test_another_load_is_shared_out_anew(before: Plan, rate: float) -> None:
    now = after(before, rate=rate)
    check(before, now, replan(before, now))


def test_a_replica_that_died_alone_is_left_out(before: Plan) -> None:
    if len(before.replicas) < 2:
        pytest.skip("the plan has one replica")
    name = before.replicas[-1].name
    made = replan(before, after(before), gone={name})
    assert [m.replica for m in made.replicas if m.fate == "lost"] == [name]
    assert name not in {r.name for r in made.plan.replicas}


def test_copies_start_on_machines_that_come_and_nowhere_else(before: Plan) -> None:
    now = after(before, added=2, rate=2.0)
    copies = new_replicas(before, now)
    assert all(s.machine in ("a-2", "a-3") for r in copies for s in r.stages)
    made = replan(before, now, added=copies)
    assert made.served_after_req_per_s >= replan(before, after(before, rate=2.0)).served_after_req_per_s * (1 - 1e-6)
    started = [m.replica for m in made.replicas if m.fate == "starts"]
    assert set(started) <= {r.name for r in copies}
