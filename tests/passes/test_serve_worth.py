"""What more is worth: against planning for the larger inventory."""

from __future__ import annotations

from functools import cache

import pytest
from serve_cases import Case, small_case, wide_case

from hexdsl.ir.diagnostic import NoPlanError, SpecError
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.rule import Rule
from hexdsl.passes.base import run_passes
from hexdsl.passes.serve.decide import decide
from hexdsl.passes.serve.what_if import WhatIf, decided, what_if
from hexdsl.passes.serve.worth import (
    MOST_IN_MACHINE,
    machines_with,
    reached,
    relaxed,
    widened,
    with_cluster,
    with_gpu,
    with_machine,
    with_rule,
    worth,
)
from hexdsl.pipeline import SERVE, choose

SEEDS = 12
TOTALS = ("throughput", "goodput", "cost")


@cache
def asked_of(seed: int, objective: str) -> WhatIf | None:
    """A case of at most 4 GPUs, so that one more machine keeps it small."""
    try:
        return what_if(small_case(seed, objective, gpus=4).plan())
    except NoPlanError:
        return None


def cases(objective: str, seeds: int = SEEDS) -> list[WhatIf]:
    found = [a for seed in range(seeds) if (a := asked_of(seed, objective)) is not None]
    assert len(found) >= seeds // 3
    return found


def bigger(asked: WhatIf, c: int, machines: int, gpus: int) -> Plan:
    """The plan for the cluster with more machines, or more GPUs in each machine, of a class."""
    plan = asked.plan
    cluster = plan.workflow.on
    nodes = cluster.nodes[c]
    more = nodes.with_(count=nodes.count + machines, gpus=nodes.gpus.with_(count=nodes.gpus.count + gpus))
    on = cluster.with_(nodes=(*cluster.nodes[:c], more, *cluster.nodes[c + 1 :]))
    passes = SERVE[: [p.name for p in SERVE].index("groups") + 1]
    empty = Plan(hexc_version=plan.hexc_version, spec_digest="", name=plan.name, workflow=plan.workflow.with_(on=on))
    return run_passes(passes, empty, lambda *_: None)


@pytest.mark.parametrize("objective", TOTALS)
def test_one_more_machine_is_worth_what_planning_for_it_says(objective: str) -> None:
    for asked in cases(objective):
        for c in range(len(asked.problem.classes)):
            found = decided(with_machine(asked, c), machines_with(asked, c))
            assert found is not None
            expected = bigger(asked, c, 1, 0).certificates[0].objective
            assert found.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", TOTALS)
def test_one_more_gpu_in_the_only_machine_is_worth_what_planning_for_it_says(objective: str) -> None:
    compared = 0
    for asked in cases(objective):
        for c, cls in enumerate(asked.problem.classes):
            if cls.count == 1:
                found = reached(with_gpu(asked, c))
                assert found is not None
                assert found[0] == pytest.approx(bigger(asked, c, 0, 1).certificates[0].objective, rel=1e-5)
                compared += 1
    assert compared >= 3


@pytest.mark.parametrize("objective", [*TOTALS, "ttft", "tpot", "two"])
def test_leaving_out_what_is_beaten_loses_nothing(objective: str) -> None:
    for asked in cases(objective):
        whole = decide(asked.question, asked.plan.machines)
        assert asked.now.value == pytest.approx(whole.value, rel=1e-6)
        assert len(asked.lean.space.options) <= len(asked.question.space.options)


@pytest.mark.parametrize("objective", [*TOTALS, "tpot"])
def test_more_never_hurts(objective: str) -> None:
    """One more machine or GPU, a wider link and a looser rule: the plan without them is still there."""
    for asked in cases(objective, 6):
        least = -1e-6 * abs(asked.now.value)
        for c, cls in enumerate(asked.problem.classes):
            more = decided(with_machine(asked, c), machines_with(asked, c))
            assert more is not None
            assert asked.gain(more.value) >= least
            if cls.size < MOST_IN_MACHINE:
                grown = reached(with_gpu(asked, c))
                assert grown is not None
                assert asked.gain(grown[0]) >= least
        for _, cluster in widened(asked.problem.serve.on):
            wide = decided(with_cluster(asked, cluster), asked.plan.machines)
            assert wide is not None
            assert asked.gain(wide.value) >= least
        for rule in asked.question.rules.all:
            loose = relaxed(rule)
            if loose is not None:
                free = decided(with_rule(asked, rule, loose), asked.plan.machines)
                assert free is not None
                assert asked.gain(free.value) >= least


@pytest.mark.parametrize("objective", TOTALS)
def test_the_bound_is_not_beaten(objective: str) -> None:
    for asked in cases(objective, 6):
        for change in worth(asked).changes:
            assert change.better >= 0
            if change.bound is not None:
                sign = 1 if asked.aim.sense == "maximize" else -1
                assert sign * change.value <= sign * change.bound * (1 + sign * 1e-5)


def test_a_tenth_more_of_a_limit() -> None:
    text = small_case(1, "goodput").text.replace(
        "maximize goodput",
        "cost <= $3/h\n  p95(ttft) <= 400ms\n  devices <= 4\n  goodput >= 2req/s\n  tp <= 2\n  maximize goodput",
    )
    spec = Case(text).load().spec
    rules = {r.text: r for r in choose(spec, None).rules}

    def limit(rule: Rule | None) -> str | None:
        return None if rule is None else rule.text

    assert limit(relaxed(rules["cost <= $3/h"])) == "cost <= $3.30/h"
    assert limit(relaxed(rules["p95(ttft) <= 400ms"])) == "p95(ttft) <= 440ms"
    assert limit(relaxed(rules["devices <= 4"])) == "devices <= 5"
    assert limit(relaxed(rules["goodput >= 2req/s"])) == "goodput >= 1.8req/s"
    assert relaxed(rules["tp <= 2"]) is None


def test_any_case_has_answers() -> None:
    """Wide inventories, all objectives: no crash, nothing negative, the same twice."""
    answered = 0
    for seed in range(14):
        case = wide_case(seed)
        try:
            plan = case.plan()
        except SpecError:
            continue
        if sum(len(m.devices) for m in plan.machines) > 24:
            continue
        found = worth(what_if(plan))
        assert all(c.better >= 0 for c in found.changes)
        assert found == worth(what_if(plan))
        answered += 1
    assert answered >= 3
