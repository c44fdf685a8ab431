"""Differences between plans."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexdsl.ir.plan import Plan, Replica, Route
from hexdsl.ir.spec.serve import Serve
from hexdsl.report.diff import close, matched, plan_diff


def _sections(old: Plan, new: Plan) -> set[str]:
    return {c.section for c in plan_diff(old, new).changes}


def test_a_plan_is_the_same_as_itself(mixed: Plan) -> None:
    found = plan_diff(mixed, mixed)
    assert found.same
    assert found.text == "the plans are the same\n"


def test_rounding_and_wording_do_not_count(mixed: Plan) -> None:
    nudged = tuple(p.with_(value=p.value * 1.0002, low=p.low * 1.0002, high=p.high * 1.0002) for p in mixed.predictions)
    new = mixed.with_(predictions=nudged, cost_usd_per_h=mixed.cost_usd_per_h * 1.0002, notes=("other words",))
    found = plan_diff(mixed, new)
    assert found.same
    assert "differ only in reasons and notes" in found.text


def test_moved_layers_are_said_as_layers(mixed: Plan) -> None:
    first, second = mixed.replicas[1].stages
    moved = mixed.replicas[1].with_(stages=(first.with_(layers=(0, 50)), second.with_(layers=(50, 80))))
    found = plan_diff(mixed, mixed.with_(replicas=(mixed.replicas[0], moved, mixed.replicas[2])))
    assert [c.what for c in found.changes] == ["r1 stages"]
    assert "0..45 on big-0:4-5" in found.changes[0].old
    assert "0..49 on big-0:4-5" in found.changes[0].new


def test_a_lost_replica_does_not_make_the_others_move(mixed: Plan) -> None:
    kept = (mixed.replicas[1].with_(name="r0"), mixed.replicas[2].with_(name="r1"))
    routes = (Route(replica="r0", weight=0.29), Route(replica="r1", weight=0.21))
    changes = plan_diff(mixed, mixed.with_(replicas=kept, routes=routes)).changes
    gone = [c for c in changes if c.section == "replicas" and not c.new]
    assert [c.what for c in gone] == ["r0"]
    assert {c.what for c in changes if "share" in c.what} == {
        "r0 (was r1) share of requests",
        "r1 (was r2) share of requests",
    }
    assert not any("stages" in c.what for c in changes)


@pytest.mark.parametrize(
    ("change", "section"),
    [
        ({"cost_usd_per_h": 40}, "cost"),
        ({"context": 4096}, "spec"),
        ({"machines": ()}, "machines"),
        ({"precision": ()}, "precision"),
        ({"predictions": ()}, "predictions"),
        ({"rules": ()}, "rules"),
        ({"certificates": ()}, "proofs"),
        ({"decisions": ()}, "decisions"),
        ({"defaults": ()}, "defaults"),
        ({"replicas": (), "routes": ()}, "replicas"),
    ],
)
def test_each_part_has_its_section(mixed: Plan, change: dict[str, object], section: str) -> None:
    assert _sections(mixed, mixed.with_(**change)) == {section}


def test_a_change_of_the_spec_alone_is_seen(mixed: Plan) -> None:
    assert isinstance(mixed.workflow, Serve)
    changed = mixed.with_(workflow=mixed.workflow.with_(utilization=0.8))
    assert _sections(mixed, changed) == {"spec"}
    assert plan_diff(mixed, changed).changes[0].text == "~ utilization: 0.9 -> 0.8"


def test_unlike_plans_differ_both_ways(mixed: Plan, quickstart: Plan) -> None:
    there, back = plan_diff(mixed, quickstart), plan_diff(quickstart, mixed)
    assert {(c.what, c.old, c.new) for c in there.changes if c.section != "spec"} == {
        (c.what, c.new, c.old) for c in back.changes if c.section != "spec"
    }
    assert json.loads(json.dumps(there.json))["same"] is False


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_closeness_is_symmetric(one: float, two: float) -> None:
    assert close(one, one)
    assert close(one, two) == close(two, one)
    assert not close(one, None)


@given(st.lists(st.sampled_from(range(6)), unique=True), st.lists(st.sampled_from(range(6)), unique=True))
def test_matching_loses_no_replica(old: list[int], new: list[int]) -> None:
    def named(numbers: list[int]) -> list[Replica]:
        whole = dict.fromkeys(("max_batch", "step_tokens", "kv_tokens", "rate_req_per_s", "capacity_req_per_s"), 1)
        facts = {**whole, "cost_usd_per_h": 0}
        return [Replica(name=f"r{n}", stages=(), **facts) for n in numbers]

    kept, gone, come = matched(named(old), named(new))
    assert len(kept) + len(gone) == len(old)
    assert len(kept) + len(come) == len(new)
