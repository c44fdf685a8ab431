"""The one door to Pyomo and HiGHS: solve, bound, order objectives, name a conflict, relax a rule.

Every run is reproducible: one thread, seed 0, and limits that count work (branch-and-bound nodes, gap).  The wall
clock is a safety net only, and a solution that it stopped says so in `stopped_by`.  Nothing is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pyomo.core.expr.numeric_expr import LinearExpression
from pyomo.environ import (
    Binary,
    Block,
    ConcreteModel,
    Constraint,
    ConstraintList,
    Expression,
    Integers,
    NonNegativeIntegers,
    NonNegativeReals,
    Objective,
    Param,
    RangeSet,
    Reals,
    Set,
    UnitInterval,
    Var,
    maximize,
    minimize,
    quicksum,
    value,
)

from hexdsl.solve.form import Form, compile_model, with_slack
from hexdsl.solve.highs import DEFAULT_LIMITS, Limits, Outcome, Solution, run

__all__ = [
    "DEFAULT_LIMITS",
    "Binary",
    "Block",
    "ConcreteModel",
    "Constraint",
    "ConstraintList",
    "Expression",
    "Goal",
    "Integers",
    "Limits",
    "LinearExpression",
    "NonNegativeIntegers",
    "NonNegativeReals",
    "Objective",
    "Param",
    "RangeSet",
    "Reals",
    "Relaxation",
    "Set",
    "Soft",
    "Solution",
    "UnitInterval",
    "Var",
    "conflict",
    "lexicographic",
    "maximize",
    "minimize",
    "quicksum",
    "relax",
    "solve",
    "value",
]

FIX_RELATIVE = 1e-6
FIX_ABSOLUTE = 1e-9
"""`lexicographic` keeps a level's value v to within FIX_RELATIVE * |v| + FIX_ABSOLUTE."""


class Goal(NamedTuple):
    """One level of `lexicographic`: a linear expression, `minimize` or `maximize`, and a name."""

    expression: Any
    sense: Any
    name: str


@dataclass(frozen=True, slots=True)
class Soft:
    """A one-sided rule `expression <= limit` (or >=), as its constraints.

    `scale` is how much each constraint's bound moves when the rule's limit moves by one of the user's units: 1 where
    the limit itself stands on the right-hand side.
    """

    name: str
    constraints: tuple[Any, ...]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Relaxation:
    """How far one rule's limit must move, all others kept; `amount` is None where no move helps.

    `proven` is false where a limit stopped the search: the amount suffices but may not be the least, or None is
    not certain.
    """

    name: str
    amount: float | None
    proven: bool = True


def solve(model: Any, limits: Limits = DEFAULT_LIMITS, warm_start: bool = False) -> Solution:
    """Solve a linear or mixed-integer model and load the values of the variables when there are any.

    With `warm_start` the variables' current values are the start; those without a value are completed by HiGHS.
    Raises ValueError where the model is not linear.
    """
    form = compile_model(model)
    outcome = run(form, limits, _start_values(form) if warm_start else None)
    _load(form, outcome)
    return outcome.solution


def lexicographic(
    model: Any, goals: Sequence[Goal | tuple[Any, Any, str]], limits: Limits = DEFAULT_LIMITS, warm_start: bool = False
) -> tuple[Solution, ...]:
    """Optimise the goals in order of priority; each keeps what the earlier ones reached.

    After level i with value v the constraint `expression <= v + t` (>= v - t when maximised) is added for the later
    levels, with t = FIX_RELATIVE * |v| + FIX_ABSOLUTE, so ties are broken by the later goals and an earlier value is
    never lost by more than t.  One solution a level; a level without one ends the list.  The last values found stay
    loaded and the model is left as it was, its own objective included.
    """
    objectives = list(model.component_data_objects(Objective, active=True))
    for objective in objectives:
        objective.deactivate()
    model._lexicographic = Block(concrete=True)
    try:
        return tuple(_levels(model, [Goal(*goal) for goal in goals], limits, warm_start))
    finally:
        model.del_component(model._lexicographic)
        for objective in objectives:
            objective.activate()


def conflict(model: Any, groups: Mapping[str, Sequence[Any]], limits: Limits = DEFAULT_LIMITS) -> tuple[str, ...]:
    """An irreducible set of groups of constraints that cannot hold together with the rest of the model.

    Deletion filter (Chinneck and Dravnieks, 1991): drop each group in turn, in the mapping's order; where the model
    stays infeasible without it, it is not needed and stays dropped.  Each group left is necessary: without it the
    others can be met.  At most one solve a group.  A check that a limit stops keeps its group, so the set is always
    in conflict but may then not be minimal.  Empty where no conflict was proven or the groups have no part in it.
    """
    form = compile_model(model).without_objective()
    rows = {name: form.rows_of(constraints) for name, constraints in groups.items()}
    if run(form, limits).solution.status != "infeasible":
        return ()
    kept = list(rows)
    for name in rows:
        without = form.without_rows(rows[name])
        if run(without, limits).solution.status == "infeasible":
            form = without
            kept.remove(name)
    return tuple(kept)


def relax(model: Any, rules: Iterable[Soft], limits: Limits = DEFAULT_LIMITS) -> tuple[Relaxation, ...]:
    """For each rule alone, the least move of its limit that makes the model feasible, the others being hard.

    Each row `a x <= b` of the rule becomes `a x <= b + scale * s` (`>= b - scale * s`) with one s >= 0 for the rule,
    and s is minimised.  Raises ValueError where a rule has an equality or a two-sided constraint.
    """
    form = compile_model(model)
    return tuple(_relax_one(form, rule, limits) for rule in rules)


def _start_values(form: Form) -> dict[int, float]:
    return {i: float(v.value) for i, v in enumerate(form.variables) if v.value is not None}


def _load(form: Form, outcome: Outcome) -> None:
    """Set the variables; integer ones are rounded, since HiGHS returns them to within 1e-6."""
    if outcome.values is None:
        return
    for variable, whole, number in zip(form.variables, form.whole, outcome.values, strict=True):
        variable.set_value(round(number) if whole else float(number), skip_validation=True)


def _levels(model: Any, goals: Sequence[Goal], limits: Limits, warm_start: bool) -> Iterator[Solution]:
    block = model._lexicographic
    block.kept = ConstraintList()
    for level, goal in enumerate(goals):
        block.objective = Objective(expr=goal.expression, sense=goal.sense)
        solution = replace(solve(model, limits, warm_start or level > 0), name=goal.name)
        block.del_component(block.objective)
        yield solution
        if not solution.found or solution.objective is None:
            return
        slack = FIX_RELATIVE * abs(solution.objective) + FIX_ABSOLUTE
        if isinstance(goal.expression, (int, float)):
            continue
        if goal.sense == maximize:
            block.kept.add(goal.expression >= solution.objective - slack)
        else:
            block.kept.add(goal.expression <= solution.objective + slack)


def _relax_one(form: Form, rule: Soft, limits: Limits) -> Relaxation:
    rows = form.rows_of(rule.constraints)
    outcome = run(with_slack(form, rows, rule.scale), limits)
    solution = outcome.solution
    amount = max(0.0, float(outcome.values[-1])) if solution.found else None
    return Relaxation(rule.name, amount, proven=solution.status in ("optimal", "infeasible"))
