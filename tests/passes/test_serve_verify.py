"""A plan that is broken on purpose is caught, whatever is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from serve_cases import Case

from hexdsl.ir.plan import Plan, Replica, Route, Stage
from hexdsl.passes.serve.verify import BrokenPlanError, faults_of, verify

SPEC = """
gpu big { memory = 300MB, reserve = 10MB, bandwidth = 400GB/s, bf16 = 40TFLOP/s, price = $1/gpu/h }
gpu low { memory = 220MB, reserve = 10MB, bandwidth = 300GB/s, bf16 = 30TFLOP/s, price = $0.7/gpu/h }
cluster c {
  nodes a { gpus = 2 * big }
  nodes b { count = 2, gpus = 1 * low, nic = 10Gb/s }
  a <-> b { bandwidth = 10Gb/s }
}
model m { layers = 5, hidden = 1024, heads = 8, kv_heads = 4, ffn = 4096, vocab = 4_000, weights = fp16 }
workload w { arrivals = poisson(3req/s), prompt = 200tok, output = 40tok }
serve s {
  model = m, on = c, workload = w, max_batch = 8
  cost <= $4/h
  replicas >= 2
  maximize throughput
}
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = Case(SPEC).plan()
    assert any(len(r.stages) > 1 for r in made.replicas)
    assert len(made.replicas) > 1
    return made


def with_replica(plan: Plan, replica: Replica, at: int = 0) -> Plan:
    return plan.with_(replicas=(*plan.replicas[:at], replica, *plan.replicas[at + 1 :]))


def with_stage(plan: Plan, change: Callable[[Stage], Stage]) -> Plan:
    first = plan.replicas[0]
    return with_replica(plan, first.with_(stages=(change(first.stages[0]), *first.stages[1:])))


def long_one(plan: Plan) -> tuple[int, Replica]:
    return next((i, r) for i, r in enumerate(plan.replicas) if len(r.stages) > 1)


def shifted(plan: Plan) -> Plan:
    """One layer more on the first stage, and the second does not know."""
    at, replica = long_one(plan)
    first = replica.stages[0]
    longer = first.with_(layers=(first.layers[0], first.layers[1] + 1))
    return with_replica(plan, replica.with_(stages=(longer, *replica.stages[1:])), at)


def swapped(plan: Plan) -> Plan:
    """The stages in the wrong order."""
    at, replica = long_one(plan)
    return with_replica(plan, replica.with_(stages=replica.stages[::-1]), at)


def reused(plan: Plan) -> Plan:
    other = plan.replicas[1].stages[0]
    return with_stage(plan, lambda s: s.with_(devices=other.devices, machine=other.machine, gpu=other.gpu))


MUTATIONS: dict[str, Callable[[Plan], Plan]] = {
    "a layer is held twice": shifted,
    "stages are out of order": swapped,
    "a GPU is used twice": reused,
    "a GPU that is not there": lambda p: with_stage(p, lambda s: s.with_(devices=("a-7:0",))),
    "a GPU of another kind": lambda p: with_stage(p, lambda s: s.with_(gpu="H100")),
    "a stage without a GPU": lambda p: with_stage(p, lambda s: s.with_(devices=())),
    "more KV cache than fits": lambda p: with_replica(p, p.replicas[0].with_(kv_tokens=p.replicas[0].kv_tokens * 50)),
    "less KV cache than a request": lambda p: with_replica(p, p.replicas[0].with_(kv_tokens=16)),
    "wrong weights": lambda p: with_stage(p, lambda s: s.with_(memory=s.memory.with_(weights_bytes=1000))),
    "wrong buffers": lambda p: with_stage(p, lambda s: s.with_(memory=s.memory.with_(other_bytes=0))),
    "more requests than the engine runs": lambda p: with_replica(p, p.replicas[0].with_(max_batch=9)),
    "a load above capacity": lambda p: with_replica(p, p.replicas[0].with_(rate_req_per_s=1e6, capacity_req_per_s=1e6)),
    "weights that do not add up": lambda p: p.with_(routes=(p.routes[0].with_(weight=0.9), *p.routes[1:])),
    "weights that are not the loads": lambda p: p.with_(routes=uneven(p)),
    "a route too few": lambda p: p.with_(routes=p.routes[1:]),
    "a cheaper plan": lambda p: p.with_(cost_usd_per_h=p.cost_usd_per_h / 2),
    "a cheaper replica": lambda p: with_replica(p, p.replicas[0].with_(cost_usd_per_h=0.01)),
    "another context": lambda p: p.with_(context=p.context // 2),
    "other machines": lambda p: p.with_(machines=p.machines[::-1]),
    "no replicas": lambda p: p.with_(replicas=()),
    "a rule is broken": lambda p: p.with_(replicas=p.replicas[:1], routes=p.routes[:1]),
}  # fmt: skip


def uneven(plan: Plan) -> tuple[Route, ...]:
    first, second, *rest = plan.routes
    return (first.with_(weight=first.weight / 2), second.with_(weight=second.weight + first.weight / 2), *rest)


def test_a_sound_plan_has_no_faults(plan: Plan) -> None:
    assert not list(faults_of(plan))


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mutation_is_caught(plan: Plan, name: str) -> None:
    broken = MUTATIONS[name](plan)
    assert broken != plan
    assert list(faults_of(broken))
    with pytest.raises(BrokenPlanError):
        verify(broken)
