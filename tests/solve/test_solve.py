"""Solving: statuses, limits, warm starts, repeatability."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations, product

import numpy as np
import pytest

from hexdsl import solve as s


def knapsack(values: np.ndarray, weights: np.ndarray, room: float) -> s.ConcreteModel:
    model = s.ConcreteModel()
    model.take = s.Var(range(len(values)), domain=s.Binary)
    model.room = s.Constraint(expr=s.quicksum(w * model.take[i] for i, w in enumerate(weights)) <= room)
    model.worth = s.Objective(expr=s.quicksum(v * model.take[i] for i, v in enumerate(values)), sense=s.maximize)
    return model


def hard_knapsack(seed: int = 3, items: int = 40, rows: int = 6) -> s.ConcreteModel:
    rng = np.random.default_rng(seed)
    model = s.ConcreteModel()
    model.take = s.Var(range(items), domain=s.Binary)
    weights = rng.integers(10, 100, (rows, items))
    model.rooms = s.ConstraintList()
    for row in weights:
        model.rooms.add(s.quicksum(int(w) * model.take[i] for i, w in enumerate(row)) <= int(row.sum() // 2))
    worth = weights.mean(axis=0) + rng.integers(0, 20, items)
    model.worth = s.Objective(expr=s.quicksum(float(v) * model.take[i] for i, v in enumerate(worth)), sense=s.maximize)
    return model


def taken(model: s.ConcreteModel) -> list[int]:
    return [s.value(v) for v in model.take.values()]


@pytest.mark.parametrize("seed", range(5))
def test_knapsack_is_as_good_as_trying_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.integers(1, 30, 10), rng.integers(1, 20, 10)
    room = float(weights.sum() // 3)
    best = max(values @ np.array(x) for x in product((0, 1), repeat=10) if weights @ np.array(x) <= room)
    model = knapsack(values, weights, room)
    solution = s.solve(model)
    assert (solution.status, solution.objective) == ("optimal", best)
    assert values @ np.array(taken(model)) == best
    assert set(taken(model)) <= {0, 1}


@pytest.mark.parametrize("seed", range(3))
def test_assignment_is_as_good_as_trying_everything(seed: int) -> None:
    cost = np.random.default_rng(seed).integers(1, 50, (5, 5))
    best = min(sum(cost[i, j] for i, j in enumerate(p)) for p in permutations(range(5)))
    model = s.ConcreteModel()
    model.x = s.Var(range(5), range(5), domain=s.Binary)
    model.rows = s.Constraint(range(5), rule=lambda m, i: s.quicksum(m.x[i, j] for j in range(5)) == 1)
    model.columns = s.Constraint(range(5), rule=lambda m, j: s.quicksum(m.x[i, j] for i in range(5)) == 1)
    model.cost = s.Objective(expr=s.quicksum(int(cost[i, j]) * model.x[i, j] for i, j in model.x))
    solution = s.solve(model)
    assert solution.objective == pytest.approx(best)
    assert solution.bound == pytest.approx(best)


def test_infeasible_loads_nothing() -> None:
    model = knapsack(np.array([1, 2]), np.array([3, 4]), -1.0)
    solution = s.solve(model)
    assert (solution.status, solution.objective, solution.found) == ("infeasible", None, False)
    assert model.take[0].value is None


@pytest.mark.parametrize("domain", [s.NonNegativeReals, s.NonNegativeIntegers])
def test_unbounded_is_told_from_infeasible(domain: object) -> None:
    model = s.ConcreteModel()
    model.x, model.y = s.Var(domain=domain), s.Var(domain=domain)
    model.row = s.Constraint(expr=model.x - model.y <= 3)
    model.goal = s.Objective(expr=model.x + model.y, sense=s.maximize)
    assert s.solve(model).status == "unbounded"
    model.other = s.Constraint(expr=model.x - model.y >= 4)
    assert s.solve(model).status == "infeasible"


def test_model_without_variables() -> None:
    model = s.ConcreteModel()
    assert s.solve(model).status == "optimal"
    model.goal = s.Objective(expr=7.0)
    assert s.solve(model).objective == 7.0


def test_constraint_that_no_variable_can_meet_is_infeasible() -> None:
    model = s.ConcreteModel()
    model.x = s.Var(bounds=(0, 1))
    model.rate = s.Constraint(expr=0 * model.x >= 12)
    model.goal = s.Objective(expr=model.x)
    assert s.solve(model).status == "infeasible"
    assert model.rate.active


def test_fixed_variables_and_constants_count() -> None:
    model = s.ConcreteModel()
    model.x, model.y = s.Var(bounds=(0, 9)), s.Var(bounds=(0, 9))
    model.y.fix(4)
    model.row = s.Constraint(expr=model.x + model.y <= 10)
    model.goal = s.Objective(expr=2 * model.x + model.y + 1, sense=s.maximize)
    assert s.solve(model).objective == pytest.approx(17)


def test_nonlinear_models_are_refused() -> None:
    model = s.ConcreteModel()
    model.x = s.Var(bounds=(0, 9))
    model.goal = s.Objective(expr=model.x**3)
    with pytest.raises(ValueError, match="linear"):
        s.solve(model)


def test_coefficients_that_are_not_finite_are_refused() -> None:
    """HiGHS would search for ever."""
    model = s.ConcreteModel()
    model.x = s.Var(domain=s.Binary)
    model.least = s.Objective(expr=float("inf") * model.x)
    with pytest.raises(ValueError, match="finite"):
        s.solve(model)


def test_node_limit_leaves_a_solution_with_its_gap() -> None:
    model = hard_knapsack()
    short = s.solve(model, s.Limits(max_nodes=1))
    worth = s.value(model.worth)
    full = s.solve(hard_knapsack())
    assert (short.status, short.stopped_by) == ("feasible", "nodes")
    assert short.objective is not None
    assert short.bound is not None
    assert full.objective is not None
    assert worth == pytest.approx(short.objective)
    assert short.objective <= full.objective <= short.bound + 1e-6
    assert short.gap == pytest.approx((short.bound - short.objective) / short.objective)
    assert full.status == "optimal"
    assert full.nodes > short.nodes


def test_limit_with_nothing_in_hand() -> None:
    rng = np.random.default_rng(1)
    model = s.ConcreteModel()
    model.take = s.Var(range(50), domain=s.Binary)
    model.rows = s.ConstraintList()
    for row in rng.integers(0, 100, (5, 50)):  # market-split rows: no heuristic finds a point
        model.rows.add(s.quicksum(int(w) * model.take[i] for i, w in enumerate(row)) == int(row.sum() // 2))
    solution = s.solve(model, s.Limits(max_nodes=3))
    assert (solution.status, solution.objective, solution.stopped_by) == ("limit", None, "nodes")


def test_warm_start_is_used() -> None:
    best = hard_knapsack()
    full = s.solve(best)
    again = hard_knapsack()
    for i, number in enumerate(taken(best)):
        again.take[i].set_value(number)
    warm = s.solve(again, s.Limits(max_nodes=0), warm_start=True)
    cold = s.solve(hard_knapsack(), s.Limits(max_nodes=0))
    assert warm.objective == pytest.approx(full.objective)
    assert full.objective is not None
    assert cold.objective is None or cold.objective < full.objective


def test_same_model_twice_gives_the_same_solution() -> None:
    first, second = hard_knapsack(seed=5), hard_knapsack(seed=5)
    one, two = s.solve(first, s.Limits(max_nodes=40)), s.solve(second, s.Limits(max_nodes=40))
    assert one == two
    assert taken(first) == taken(second)
    assert one.nodes > 0
    assert one.work > 0


def test_a_fresh_process_prints_nothing() -> None:
    """HiGHS greets below Python, once a process, so only another process can tell."""
    code = (
        "from hexdsl import solve as s\n"
        "m = s.ConcreteModel()\nm.x = s.Var(bounds=(0, 5.5), domain=s.NonNegativeIntegers)\n"
        "m.o = s.Objective(expr=m.x, sense=s.maximize)\nassert s.solve(m).objective == 5\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_solver_is_named() -> None:
    assert s.solve(hard_knapsack(items=10)).solver.startswith("HiGHS 1.")
