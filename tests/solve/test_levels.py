"""Objectives in order, conflicts between rules, and relaxations."""

from __future__ import annotations

from typing import Any

import pytest

from hexdsl import solve as s


def plan(*, rate: float, cost: float) -> s.ConcreteModel:
    """Two kinds of GPU: 5 req/s at $2/h and 8 req/s at $4/h, four of each."""
    model = s.ConcreteModel()
    model.small, model.large = (
        s.Var(domain=s.NonNegativeIntegers, bounds=(0, 4)),
        s.Var(domain=s.NonNegativeIntegers, bounds=(0, 4)),
    )
    model.rate = s.Constraint(expr=5 * model.small + 8 * model.large >= rate)
    model.cost = s.Constraint(expr=2 * model.small + 4 * model.large <= cost)
    model.devices = s.Constraint(expr=model.small + model.large <= 6)
    return model


def groups(model: s.ConcreteModel) -> dict[str, list[Any]]:
    return {"devices": [model.devices], "cost": [model.cost], "rate": [model.rate]}


def test_later_goals_break_ties_only() -> None:
    model = s.ConcreteModel()
    model.x = s.Var(range(3), domain=s.Binary)
    model.two = s.Constraint(expr=s.quicksum(model.x.values()) <= 2)
    worth = 5 * model.x[0] + 5 * model.x[1] + 5 * model.x[2]
    price = 3 * model.x[0] + 1 * model.x[1] + 2 * model.x[2]
    most, least = s.lexicographic(model, [(worth, s.maximize, "worth"), (price, s.minimize, "price")])
    assert most.objective == pytest.approx(10)
    assert least.objective == pytest.approx(3)
    assert (most.name, least.name) == ("worth", "price")
    assert [v.value for v in model.x.values()] == [0, 1, 1]


def test_order_of_goals_matters_and_the_model_is_left_as_it_was() -> None:
    model = plan(rate=16, cost=20)
    model.own = s.Objective(expr=model.small)
    cost, rate = 2 * model.small + 4 * model.large, 5 * model.small + 8 * model.large
    cheap = s.lexicographic(model, [(cost, s.minimize, "cost"), (rate, s.maximize, "rate")])
    fast = s.lexicographic(model, [(rate, s.maximize, "rate"), (cost, s.minimize, "cost")])
    assert [x.objective for x in cheap] == [pytest.approx(8), pytest.approx(20)]
    assert [x.objective for x in fast] == [pytest.approx(42), pytest.approx(20)]
    assert model.own.active
    assert [c.name for c in model.component_objects(s.Constraint)] == ["rate", "cost", "devices"]


def test_levels_end_at_the_first_without_a_solution() -> None:
    model = plan(rate=50, cost=20)
    (only,) = s.lexicographic(model, [(model.small, s.minimize, "a"), (model.large, s.minimize, "b")])
    assert only.status == "infeasible"


def test_conflict_names_the_rules_that_cannot_hold_together() -> None:
    model = plan(rate=20, cost=5)
    assert s.conflict(model, groups(model)) == ("cost", "rate")
    model = plan(rate=50, cost=100)
    assert s.conflict(model, groups(model)) == ("devices", "rate")


def test_conflict_of_one_rule_and_of_none() -> None:
    model = plan(rate=1, cost=-1)
    assert s.conflict(model, groups(model)) == ("cost",)
    model = plan(rate=1, cost=9)
    assert s.conflict(model, groups(model)) == ()


def test_conflict_outside_the_rules_blames_nobody() -> None:
    model = plan(rate=20, cost=5)
    model.never = s.Constraint(expr=model.small >= 7)
    assert s.conflict(model, groups(model)) == ()


def test_each_conflicting_rule_is_necessary() -> None:
    model = plan(rate=33, cost=13)
    named = groups(model)
    found = s.conflict(model, named)
    assert len(found) >= 2
    for name in found:
        for constraint in named[name]:
            constraint.deactivate()
        rest = {n: named[n] for n in found if n != name}
        assert s.conflict(model, rest) == ()
        for constraint in named[name]:
            constraint.activate()


def test_rule_without_candidates_is_blamed() -> None:
    model = plan(rate=1, cost=9)
    model.none = s.Constraint(expr=0 * model.small >= 12)
    assert s.conflict(model, {**groups(model), "none": [model.none]}) == ("none",)


def test_indexed_constraints_form_one_group() -> None:
    model = s.ConcreteModel()
    model.x = s.Var(range(2), bounds=(0, 10))
    model.low = s.Constraint(range(2), rule=lambda m, i: m.x[i] >= 3)
    model.sum = s.Constraint(expr=model.x[0] + model.x[1] <= 5)
    assert s.conflict(model, {"low": [model.low], "sum": [model.sum]}) == ("low", "sum")


def test_relaxation_is_the_least_move_of_each_limit() -> None:
    model = plan(rate=20, cost=5)
    cost, rate = s.relax(model, [s.Soft("cost", (model.cost,)), s.Soft("rate", (model.rate,))])
    assert (cost.name, rate.name) == ("cost", "rate")
    assert cost.amount == pytest.approx(3)  # four small ones: 20 req/s at $8
    assert rate.amount == pytest.approx(10)  # $5 buys two small ones: 10 req/s
    assert cost.proven
    assert rate.proven


def test_relaxation_in_the_unit_of_the_rule() -> None:
    model = plan(rate=20, cost=5)
    (cost,) = s.relax(model, [s.Soft("cost", (model.cost,), scale=0.5)])
    assert cost.amount == pytest.approx(6)


def test_relaxation_that_cannot_help_is_none() -> None:
    model = plan(rate=60, cost=100)
    devices, rate = s.relax(model, [s.Soft("devices", (model.devices,)), s.Soft("rate", (model.rate,))])
    assert devices.amount is None  # eight GPUs reach 52 req/s
    assert rate.amount == pytest.approx(18)


def test_relaxation_needs_no_move_where_the_rules_hold() -> None:
    model = plan(rate=10, cost=10)
    assert s.relax(model, [s.Soft("cost", (model.cost,))])[0].amount == 0


def test_equalities_cannot_be_relaxed() -> None:
    model = plan(rate=20, cost=5)
    model.same = s.Constraint(expr=model.small == model.large)
    model.between = s.Constraint(expr=(1, model.small, 2))
    for constraint in (model.same, model.between):
        with pytest.raises(ValueError, match="two-sided"):
            s.relax(model, [s.Soft("same", (constraint,))])
