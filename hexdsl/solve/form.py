"""A Pyomo model as arrays: what HiGHS takes, and what the searches for conflicts and relaxations edit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sparse
from pyomo.common.errors import InfeasibleConstraintException
from pyomo.environ import Constraint, maximize
from pyomo.repn import generate_standard_repn
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler


@dataclass(frozen=True)
class Form:
    """Optimise `cost x + offset` subject to `row_low <= matrix x <= row_high` and `low <= x <= high`."""

    variables: tuple[Any, ...]
    constraints: tuple[Any, ...]
    matrix: Any
    cost: Any
    offset: float
    maximise: bool
    row_low: Any
    row_high: Any
    low: Any
    high: Any
    whole: Any

    def without_objective(self) -> Form:
        return replace(self, cost=np.zeros_like(self.cost), offset=0.0, maximise=False)

    def without_rows(self, rows: Any) -> Form:
        low, high = self.row_low.copy(), self.row_high.copy()
        low[rows], high[rows] = -np.inf, np.inf
        return replace(self, row_low=low, row_high=high)

    def rows_of(self, constraints: Iterable[Any]) -> Any:
        wanted = {id(c) for c in _flat(constraints)}
        return np.array([i for i, c in enumerate(self.constraints) if id(c) in wanted], dtype=np.int64)


def compile_model(model: Any) -> Form:
    """The active part of a linear Pyomo model.  Raises ValueError where it is not linear or has two objectives."""
    try:
        info = LinearStandardFormCompiler().write(model, mixed_form=True, set_sense=None)
    except InfeasibleConstraintException:
        return _compile_around(model, tuple(_never_true(model)))
    if len(info.objectives) > 1:
        raise ValueError("the model has more than one active objective: use lexicographic()")
    return _form(info)


def _compile_around(model: Any, never: tuple[Any, ...]) -> Form:
    """The model with constraints that have no variables and do not hold as empty rows, for HiGHS to refuse."""
    for constraint in never:
        constraint.deactivate()
    try:
        form = compile_model(model)
    finally:
        for constraint in never:
            constraint.activate()
    low, high = zip(*(_constant_bounds(c) for c in never), strict=True)
    return replace(
        form,
        constraints=form.constraints + never,
        matrix=sparse.csc_array(sparse.vstack([form.matrix, sparse.csc_array((len(never), len(form.variables)))])),
        row_low=np.append(form.row_low, low),
        row_high=np.append(form.row_high, high),
    )


def _never_true(model: Any) -> Iterator[Any]:
    for constraint in model.component_data_objects(Constraint, active=True):
        if not generate_standard_repn(constraint.body).linear_vars:
            low, high = _constant_bounds(constraint)
            if low > 0 or high < 0:
                yield constraint


def _constant_bounds(constraint: Any) -> tuple[float, float]:
    body = generate_standard_repn(constraint.body).constant
    low, high = constraint.lb, constraint.ub
    return (-np.inf if low is None else low - body, np.inf if high is None else high - body)


def _form(info: Any) -> Form:
    kinds = np.array([row.bound_type for row in info.rows], dtype=np.int64)
    right = np.asarray(info.rhs, dtype=float)
    one = len(info.objectives) == 1
    return Form(
        variables=tuple(info.columns),
        constraints=tuple(row.constraint for row in info.rows),
        matrix=info.A,
        cost=np.asarray(info.c.todense()).reshape(-1) if one else np.zeros(len(info.columns)),
        offset=float(info.c_offset[0]) if one else 0.0,
        maximise=one and info.objectives[0].sense == maximize,
        row_low=np.where(kinds <= 0, right, -np.inf),
        row_high=np.where(kinds >= 0, right, np.inf),
        low=np.array([-np.inf if v.lb is None else v.lb for v in info.columns], dtype=float),
        high=np.array([np.inf if v.ub is None else v.ub for v in info.columns], dtype=float),
        whole=np.array([v.is_integer() for v in info.columns], dtype=bool),
    )


def _flat(constraints: Iterable[Any]) -> Iterator[Any]:
    for constraint in constraints:
        yield from constraint.values() if constraint.is_indexed() else (constraint,)


def with_slack(form: Form, rows: Any, scale: float) -> Form:
    """The form with one more column s >= 0 that loosens one-sided rows by `scale * s`, and s minimised.

    Raises ValueError where a row is an equality, or one half of a two-sided constraint.
    """
    upper = np.isfinite(form.row_high[rows])
    halves = len({id(form.constraints[i]) for i in rows}) < len(rows)
    if halves or np.any(upper & np.isfinite(form.row_low[rows])):
        raise ValueError("an equality or a two-sided constraint cannot be relaxed")
    column = np.zeros((len(form.constraints), 1))
    column[rows, 0] = np.where(upper, -scale, scale)
    return replace(
        form,
        variables=(*form.variables, None),
        matrix=sparse.csc_array(sparse.hstack([form.matrix, sparse.csc_array(column)])),
        cost=np.append(np.zeros(len(form.variables)), 1.0),
        offset=0.0,
        maximise=False,
        low=np.append(form.low, 0.0),
        high=np.append(form.high, np.inf),
        whole=np.append(form.whole, False),
    )
