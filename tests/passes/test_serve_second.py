"""Second best, other roles and idle GPUs: against the enumeration of every set of replicas."""

from __future__ import annotations

from functools import cache

import pytest
from serve_brute import Brute, Use
from serve_cases import planned, small_case

from hexdsl.api import load_text
from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.idle import unused, used_by_class
from hexdsl.passes.serve.second import phases_of, second_best
from hexdsl.passes.serve.what_if import WhatIf, what_if

SEEDS = 30
Key = tuple[tuple[tuple[str, int], ...], ...]


@cache
def asked_of(seed: int, objective: str) -> tuple[WhatIf, Brute] | None:
    """A small case with its enumeration; None without a plan, or where the split of layers matters."""
    case = small_case(seed, objective)
    serve = case.load().spec.workflows[0]
    assert isinstance(serve, Serve)
    brute = Brute(serve)
    try:
        return None if any(m.name != "tpot" for m in brute.named) else (what_if(case.plan()), brute)
    except NoPlanError:
        return None


def value_of(family: tuple[Use, ...], brute: Brute, objective: str) -> float | None:
    """The objective, larger being better; None where the plan breaks a rule."""
    rate = sum(max(o.rate for o in brute.options(use)) for use in family)
    if not brute.totals_hold(family, rate):
        return None
    if objective == "cost":
        assert brute.arrivals is not None
        return -brute.cost(family) if rate >= brute.arrivals * (1 - 1e-9) else None
    return rate * float(brute.load.output) if objective == "throughput" else min(rate, brute.arrivals or rate)


def key_of(family: tuple[Use, ...], brute: Brute) -> Key:
    return tuple(sorted(tuple(sorted((brute.machines[m].name, n) for m, n in use)) for use in family))


def chosen(asked: WhatIf) -> Key:
    names = [c.name for c in asked.problem.classes]
    kinds = (tuple(sorted((names[c], n) for c, n in signature)) for _, signature in asked.kinds.elements())
    return tuple(sorted(kinds))


@pytest.mark.parametrize("objective", ["throughput", "goodput", "cost"])
def test_second_best_is_that_of_the_enumeration(objective: str) -> None:
    compared = 0
    for seed in range(SEEDS):
        found = asked_of(seed, objective)
        if found is None:
            continue
        asked, brute = found
        others = (f for f in brute.families if key_of(f, brute) != chosen(asked))
        values = [v for f in others if (v := value_of(f, brute, objective)) is not None]
        second = second_best(asked)
        assert (second.second is None) == (not values)
        if second.second is not None:
            sign = -1 if objective == "cost" else 1
            assert sign * second.second.value == pytest.approx(max(values), rel=1e-5)
            assert second.worse == pytest.approx(abs(second.best.value - second.second.value), abs=1e-9)
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize("objective", ["goodput", "cost"])
def test_idle_gpus_are_worth_what_the_enumeration_says(objective: str) -> None:
    compared = 0
    for seed in range(SEEDS):
        found = asked_of(seed, objective)
        if found is None:
            continue
        asked, brute = found
        used = used_by_class(asked)
        names = {c.name: i for i, c in enumerate(asked.problem.classes)}
        for idle in unused(asked).idle:
            values = [
                v
                for f in brute.families
                if sum(n for use in f for m, n in use if brute.machines[m].name == idle.group) > used[names[idle.group]]
                and (v := value_of(f, brute, objective)) is not None
            ]
            assert (idle.instead is None) == (not values)
            if idle.instead is not None:
                sign = -1 if objective == "cost" else 1
                assert sign * idle.instead.value == pytest.approx(max(values), rel=1e-5)
                compared += 1
    assert compared >= 5


PHASED = """
import "std/gpus.hex"
import "std/models.hex"
cluster lab {
  nodes fast { count = 2, gpus = 1 * H100 }
  nodes wide { count = 2, gpus = 1 * A6000 }
  nodes tiny { count = 1, gpus = 1 * tiny_gpu }
  within fast { bandwidth = 100Gb/s, latency = 50us }
  within wide { bandwidth = 100Gb/s, latency = 50us }
  fast <-> wide { bandwidth = 100Gb/s, latency = 50us }
}
gpu tiny_gpu { memory = 8GB, bandwidth = 300GB/s, bf16 = 30TFLOP/s }
workload chat { arrivals = poisson(1000req/s), prompt = 2000tok, output = 200tok }
serve s {
  model = llama8b
  on = lab
  workload = chat
  pp == 1
  p95(ttft) <= 500ms
  p95(tpot) <= 40ms
  phase prefill {}
  maximize goodput
}
"""


def test_another_role_is_never_better() -> None:
    """The best plan chose among the roles, so that fixing one otherwise gives a plan that is no better."""
    asked = what_if(planned(load_text(PHASED).spec))
    found = phases_of(asked)
    assert found.apart
    assert {p.role for p in found.phases} == {kind[0] for kind in asked.kinds}
    assert sorted(n for p in found.phases for n in p.names) == sorted(r.name for r in asked.plan.replicas)
    forced = [t for p in found.phases for t in p.others if t.instead is not None]
    assert forced
    for turned in forced:
        assert turned.instead is not None
        assert turned.instead.value <= found.best.value * (1 + 1e-6)
        assert turned.worse == pytest.approx(found.best.value - turned.instead.value, rel=1e-6, abs=1e-9)


def test_too_small_a_gpu_lacks_memory() -> None:
    asked = what_if(planned(load_text(PHASED).spec))
    idle = {i.group: i for i in unused(asked).idle}
    assert idle["tiny"].reason == "memory"
    assert idle["tiny"].weights_bytes > idle["tiny"].room_bytes > 0
