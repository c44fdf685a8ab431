"""The frontier: nothing on it is dominated, its ends are the planner's own optima, and its lines reproduce it."""

from __future__ import annotations

from functools import cache

import pytest
from serve_cases import OBJECTIVES, Case, planned, small_case

from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.front import Axis, dominates
from hexdsl.ir.plan import Margin, Plan
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.front import Found, Search, explored, latency_of, written
from hexdsl.passes.serve.problem import problem_of
from hexdsl.pipeline import choose, plan_front, start

CASES = [(seed, objective) for objective in ("throughput", "goodput", "cost", "tpot") for seed in range(5)]
POINTS = 8


@cache
def searched(seed: int, objective: str) -> tuple[Case, Search, list[Found]] | None:
    """A case with its frontier before simulation; None where it has no plan."""
    case = small_case(seed, objective, gpus=4)
    spec = case.load().spec
    first = start(spec, choose(spec, None))
    assert isinstance(first.workflow, Serve)

    def planner(serve: Serve, _: tuple[Margin, ...]) -> Plan:
        return planned(spec.with_(workflows=(serve,)))

    search = Search(first.workflow, problem_of(first), planner, lambda _: None)
    try:
        return case, search, explored(search, POINTS)
    except NoPlanError:
        return None


def found() -> list[tuple[Case, Search, list[Found], str]]:
    made = [(*front, o) for seed, o in CASES if (front := searched(seed, o)) is not None]
    assert len(made) >= len(CASES) // 2
    return made


def asking(case: Case, objective: str, *lines: str) -> Case:
    """The case with other lines in place of its objectives, as a user would write them."""
    return Case(case.text.replace(f"  {OBJECTIVES[objective]}\n}}", "  " + "\n  ".join(lines) + "\n}"))


def test_no_point_is_dominated_and_many_are_found() -> None:
    sizes = []
    for _, search, points, _ in found():
        values = [p.values for p in points]
        assert not any(dominates(search.axes, one, other) for one in values for other in values)
        sizes.append(len(points))
    assert max(sizes) >= 4
    assert max(sizes) <= POINTS


def test_the_best_of_each_axis_is_the_planners_own_optimum() -> None:
    compared = 0
    for case, search, points, objective in found():
        for i, axis in enumerate(search.axes):
            try:
                own = asking(case, objective, axis.goal).plan()
            except NoPlanError:
                assert not search.everyone  # the load is more than can be served, and the objective asks for all of it
                continue
            reached = own.cost_usd_per_h if axis.name == "cost" else own.certificates[0].objective
            best = (min if axis.sense == "minimize" else max)(p.values[i] for p in points)
            assert best == pytest.approx(reached, rel=2e-5), (case.text, axis)
            compared += 1
    assert compared > 20


def test_the_users_rules_hold_at_every_point() -> None:
    for case, search, points, _ in found():
        for point in points:
            assert all(rule.holds for rule in point.plan.rules)
            assert {r.text for r in search.serve.rules} <= {r.text for r in point.plan.rules}
            if search.everyone:
                assert point.plan.served_req_per_s == pytest.approx(search.problem.arrivals), case.text


def test_the_lines_of_a_point_reproduce_its_plan() -> None:
    limited = 0
    for case, _, points, objective in found():
        for point in points:
            again = asking(case, objective, *point.asked.lines).plan()
            assert again.replicas == point.plan.replicas
            limited += bool(point.asked.rules)
    assert limited > 5


def test_the_plans_of_a_frontier_are_simulated_and_the_same_each_time() -> None:
    spec = small_case(1, "cost", gpus=4).load().spec
    one, two = (plan_front(spec, None, 5, lambda *_: None, lambda _: None) for _ in range(2))
    assert one == two
    assert all(p.simulated[2] is not None for p in one.points)
    assert [p.values for p in one.points] == sorted(p.values for p in one.points)


def test_without_a_plan_the_planners_error_is_raised() -> None:
    case = small_case(1, "cost", gpus=4)
    tight = asking(case, "cost", "p95(tpot) <= 1us", "minimize cost").load().spec
    with pytest.raises(NoPlanError) as refused:
        plan_front(tight, None, 5, lambda *_: None, lambda _: None)
    assert refused.value.diagnostics[0].code == "P001"


def test_gpus_in_use_are_counted_where_prices_are_not_known() -> None:
    case = small_case(3, "throughput", gpus=4)
    text = "\n".join(line.partition(", price")[0] + line[line.find("/gpu/h") + 6 :] if "price" in line else line
                     for line in case.text.splitlines())  # fmt: skip
    spec = Case(text).load().spec
    first = start(spec, choose(spec, None))
    assert isinstance(first.workflow, Serve)
    axes = Search(first.workflow, problem_of(first), lambda *_: first, lambda _: None).axes
    assert axes[0] == Axis(name="devices", sense="minimize")


def test_the_latency_is_the_first_that_is_named() -> None:
    case = small_case(1, "cost", gpus=4)
    serve = asking(case, "cost", "mean(ttft) <= 90s", "minimize p95(latency)").load().spec.workflows[0]
    assert isinstance(serve, Serve)
    assert str(latency_of(serve.with_(rules=()))) == "p95(latency)"
    assert str(latency_of(serve.with_(rules=(), objectives=()))) == "p95(tpot)"


@pytest.mark.parametrize(
    ("value", "unit", "text", "number"),
    [
        (12.341, "usd/h", "$12.35/h", 12.35 / 3600),
        (0.03121, "s", "31.3ms", 0.0313),
        (2.0, "s", "2s", 2.0),
        (7.9, "", "7", 7.0),
    ],
)
def test_limits_are_said_as_they_are_meant(value: float, unit: str, text: str, number: float) -> None:
    said, limit = written(value, unit)
    assert (said, limit.value) == (text, pytest.approx(number, rel=1e-15))
