"""Prefill and decode on different replicas: against enumeration, links that bind, and what the verifier catches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import networkx as nx
import numpy as np
import pytest
from serve_cases import planned

from hexdsl.api import load_text
from hexdsl.costs.serving import Pipeline
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.rule import Metric
from hexdsl.passes.serve.handover import kv_bytes
from hexdsl.passes.serve.metrics import DecodeLatency, Latency, PrefillLatency
from hexdsl.passes.serve.phases import HELD, LOADS
from hexdsl.passes.serve.points import Pricer
from hexdsl.passes.serve.predict import views_of
from hexdsl.passes.serve.problem import Problem, problem_of
from hexdsl.passes.serve.simulate import Size, simulated
from hexdsl.passes.serve.verify import BrokenPlanError, verify

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster lab {{
  nodes fast {{ count = {fast}, gpus = 1 * H100 }}
  nodes wide {{ count = {wide}, gpus = 1 * A6000 }}
  within fast {{ bandwidth = {link}, latency = 50us }}
  within wide {{ bandwidth = {link}, latency = 50us }}
  fast <-> wide {{ bandwidth = {link}, latency = 50us }}
}}
workload chat {{ arrivals = poisson({rate}req/s), prompt = {prompt}tok, output = {output}tok }}
serve s {{
  model = llama8b
  on = lab
  workload = chat
  pp == 1
  p95(ttft) <= {ttft}ms
  p95(tpot) <= {tpot}ms
  {phase}
  maximize goodput
}}
"""
BASE = {
    "fast": 2, "wide": 2, "link": "100Gb/s", "rate": 1000, "prompt": 2000, "output": 200, "ttft": 500, "tpot": 40,
    "phase": "phase prefill {}",
}  # fmt: skip
TTFT, TPOT = Metric(name="ttft", stat="p95"), Metric(name="tpot", stat="p95")


def plan_of(**given: object) -> Plan:
    return planned(load_text(SPEC.format(**(BASE | given))).spec)


def best_rates(problem: Problem, cls: int) -> dict[str, float]:
    """The most requests/s of one GPU of a class in each role, by the limits on latencies, one batch after another."""
    pricer = Pricer(problem)
    line = Pipeline((pricer.stage(cls, 1),), (problem.arch.layers,), ())
    limits = {m: rule.expr.right.value for rule in problem.serve.rules for m in (TTFT, TPOT) if str(m) in rule.text}
    found = dict.fromkeys(("both", "prefill", "decode"), 0.0)
    room = int(pricer.room(_shape(pricer, cls)).tokens(np.array([[problem.arch.layers]]))[0])
    for batch in range(1, problem.engine.max_batch + 1):
        needed = -(-max(batch * problem.tokens_per_request, problem.context) // 16) * 16
        if needed > room:
            break
        seats = int(problem.seats(batch, room))
        whole, half = (float(line.rate(batch, problem.load, prefill=p)) for p in (True, False))
        together = Latency(line, batch, whole, problem, seats=seats)
        if all(float(together.value(m)) <= limit for m, limit in limits.items()):
            found["both"] = max(found["both"], whole)
        if float(DecodeLatency(line, batch, half, problem).value(TPOT)) <= limits[TPOT]:
            found["decode"] = max(found["decode"], half)
    most = 1 / float(line.prompt_gap(problem.prompt, problem.load.cv_prompt))
    for load in LOADS if room >= HELD * problem.prompt else ():
        if float(PrefillLatency(line, 1, load * most, problem).value(TTFT)) <= limits[TTFT]:
            found["prefill"] = max(found["prefill"], float(load * most))
    return found


def _shape(pricer: Pricer, cls: int):  # type: ignore[no-untyped-def]
    from hexdsl.passes.serve.shapes import Shape, Slot

    return Shape((Slot(cls, 0, 1),))


def every_flow(problem: Problem, per_link: float) -> Iterator[float]:
    """The most requests/s of every choice of a role for each GPU, by maximum flow."""
    kinds = [cls for cls, c in enumerate(problem.classes) for _ in range(c.count)]
    rates = [best_rates(problem, cls) for cls in range(len(problem.classes))]
    for roles in product(("both", "prefill", "decode"), repeat=len(kinds)):
        graph = nx.DiGraph()
        graph.add_nodes_from(("s", "t"))
        for i, role in enumerate(roles):
            rate = rates[kinds[i]][role]
            graph.add_edge("s" if role != "decode" else f"{i}in", f"{i}" if role != "decode" else "t", capacity=rate)
            if role == "both":
                graph.add_edge(f"{i}", "t", capacity=rate)
        firsts, thens = ([i for i, r in enumerate(roles) if r == role] for role in ("prefill", "decode"))
        for i, j in product(firsts, thens):
            graph.add_edge(f"{i}", f"{j}in", capacity=per_link)
        yield nx.maximum_flow_value(graph, "s", "t", flow_func=nx.algorithms.flow.preflow_push)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"prompt": 4000, "output": 60, "ttft": 900},
        {"prompt": 300, "output": 600, "tpot": 25},
        {"link": "1Gb/s", "tpot": 25},
        {"fast": 1, "wide": 3, "tpot": 60, "ttft": 1500},
    ],
)
def test_the_best_roles_of_single_gpus_are_found(given: dict[str, object]) -> None:
    plan = plan_of(**given)
    problem = problem_of(plan)
    link = next(iter(problem.network.between.values()))
    best = max(every_flow(problem, link.bandwidth / kv_bytes(problem, 4)))
    assert plan.certificates[0].objective == pytest.approx(best, rel=1e-4)
    assert plan.certificates[0].bound >= best * (1 - 1e-6)


def test_phases_apart_are_never_worse() -> None:
    apart, together = plan_of(), plan_of(phase="")
    assert {r.role for r in together.replicas} == {"both"}
    assert apart.certificates[0].objective >= together.certificates[0].objective * (1 - 1e-6)
    assert {"prefill", "decode"} <= {r.role for r in apart.replicas}


def test_a_narrow_link_costs_throughput_and_compresses() -> None:
    """The shape of ThunderServe's link test: a wide link, a narrow one, hardly any between the halves."""
    given = {"prompt": 4000, "tpot": 20, "ttft": 1500}
    wide, narrow, cut = (plan_of(link=link, **given) for link in ("400Gb/s", "40Gb/s", "1Mb/s"))
    served = [p.served_req_per_s for p in (wide, narrow, cut)]
    assert served[0] >= served[1] >= 1.1 * served[2]
    assert {h.bits for h in wide.handovers} == {16}
    assert 4 in {h.bits for h in narrow.handovers}
    assert not cut.handovers


def test_shares_and_predictions_fit_together() -> None:
    plan = plan_of()
    sources = {h.source for h in plan.handovers}
    for source in sources:
        assert sum(h.weight for h in plan.handovers if h.source == source) == pytest.approx(1.0)
    assert {r.replica for r in plan.routes} == {r.name for r in plan.entries}
    problem = problem_of(plan)
    for view in views_of(plan, problem):
        metrics = {p.metric for p in view.predictions}
        assert metrics == {"prefill": {"ttft", "capacity"}, "decode": {"tpot", "capacity"}}.get(
            view.replica.role, {"ttft", "tpot", "capacity"}
        )


def test_the_simulation_hands_over_and_agrees() -> None:
    plan = plan_of(rate=20)
    found = simulated(plan, Size(600, seeds=2)).simulation
    assert found is not None
    figures = {f.metric: f.mean for f in found.figures}
    tpot = next(p for p in plan.predictions if p.metric == "tpot")
    assert figures["goodput"] == pytest.approx(plan.served_req_per_s, rel=0.06)
    assert figures["mean(tpot)"] == pytest.approx(tpot.value, rel=0.25)


@pytest.mark.parametrize("damage", ["unknown", "half", "bits", "role"])
def test_the_verifier_catches_broken_handovers(damage: str) -> None:
    plan = plan_of()
    first, *rest = plan.handovers
    broken = {
        "unknown": plan.with_(handovers=(first.with_(target=first.source), *rest)),
        "half": plan.with_(handovers=(first.with_(weight=first.weight / 2), *rest)),
        "bits": plan.with_(handovers=(first.with_(bits=16000), *rest)),
        "role": plan.with_(replicas=tuple(r.with_(role="both") for r in plan.replicas)),
    }[damage]
    with pytest.raises(BrokenPlanError):
        verify(broken)
