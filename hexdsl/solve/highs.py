"""One reproducible, silent run of HiGHS on a compiled model."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, NamedTuple

import highspy
import numpy as np

from hexdsl.solve.form import Form

Status = Literal["optimal", "feasible", "infeasible", "unbounded", "limit"]
Stop = Literal["", "nodes", "time", "numerics"]

_VERSION = (highspy.HIGHS_VERSION_MAJOR, highspy.HIGHS_VERSION_MINOR, highspy.HIGHS_VERSION_PATCH)
SOLVER = "HiGHS " + ".".join(map(str, _VERSION))


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop: branch-and-bound nodes and gap are reproducible, `time_s` is the safety net behind them."""

    max_nodes: int = 100_000
    rel_gap: float = 1e-6
    time_s: float = 60.0


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Solution:
    """What came out.  `optimal` means within the gap asked for; `limit` means stopped with nothing in hand.

    `objective` and `bound` are in the model's own sense and None where there is none; `work` counts simplex and
    interior-point iterations.  `seconds` takes no part in comparisons.
    """

    status: Status
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    nodes: int = 0
    work: int = 0
    stopped_by: Stop = ""
    name: str = ""
    solver: str = SOLVER
    seconds: float = field(default=0.0, compare=False)

    @property
    def found(self) -> bool:
        """Whether variable values were loaded."""
        return self.status in ("optimal", "feasible")


INFINITE = 1e20
"""What HiGHS takes for infinity: its option `infinite_bound`."""

_STOPS: Mapping[Any, Stop] = {
    highspy.HighsModelStatus.kOptimal: "",
    highspy.HighsModelStatus.kTimeLimit: "time",
    highspy.HighsModelStatus.kIterationLimit: "nodes",
    highspy.HighsModelStatus.kSolutionLimit: "nodes",
}


class Outcome(NamedTuple):
    """A solution and the values of the form's variables, None where there are none."""

    solution: Solution
    values: Any = None


def run(form: Form, limits: Limits, start: Mapping[int, float] | None = None) -> Outcome:
    """Solve once; Ctrl-C is passed on after the solver has stopped."""
    began = time.perf_counter()
    outcome = _clear_up(form, limits, _optimise(form, limits, start))
    return outcome._replace(solution=replace(outcome.solution, seconds=time.perf_counter() - began))


def _clear_up(form: Form, limits: Limits, outcome: Outcome) -> Outcome:
    """HiGHS may end with "unbounded or infeasible": a feasible model with no optimum is unbounded."""
    if outcome.solution.status != "unbounded":
        return outcome
    point = _optimise(form.without_objective(), limits, None)
    status = "unbounded" if point.solution.found else point.solution.status
    return Outcome(replace(point.solution, status=status, objective=None, bound=None, gap=None))


def _optimise(form: Form, limits: Limits, start: Mapping[int, float] | None) -> Outcome:
    if not form.variables:
        return _without_variables(form)
    if np.any(form.row_low >= INFINITE) or np.any(form.row_high <= -INFINITE):
        return Outcome(Solution("infeasible"))  # HiGHS refuses such rows
    if not (np.isfinite(form.cost).all() and np.isfinite(form.matrix.data).all()):
        raise ValueError("a coefficient of the model is not finite")  # HiGHS would search for ever
    highspy.Highs.resetGlobalScheduler(True)  # a process that solved with other threads before would fail
    highs = _new_highs()
    _configure(highs, limits)
    _accepted(highs.passModel(_highs_model(form)), "model")
    if start:
        highs.setSolution(len(start), np.fromiter(start, np.int32), np.fromiter(start.values(), np.float64))
    _interruptible(highs)
    return _read(form, highs)


def _without_variables(form: Form) -> Outcome:
    if np.any(form.row_low > 0) or np.any(form.row_high < 0):
        return Outcome(Solution("infeasible"))
    return Outcome(Solution("optimal", form.offset, form.offset, 0.0), np.zeros(0))


def _new_highs() -> Any:
    _swallow_banner()
    return highspy.Highs()  # type: ignore[no-untyped-call]


@cache
def _swallow_banner() -> None:
    """HiGHS greets on the process's standard output when it is first made, before any option can be set."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()  # type: ignore[no-untyped-call]
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _configure(highs: Any, limits: Limits) -> None:
    highs.setOptionValue("output_flag", False)
    options = {
        "threads": 1,
        "random_seed": 0,
        "mip_max_nodes": limits.max_nodes,
        "mip_rel_gap": limits.rel_gap,
        "mip_abs_gap": 1e-9,
        "time_limit": limits.time_s,
    }
    for name, setting in options.items():
        _accepted(highs.setOptionValue(name, setting), name)


def _accepted(status: Any, what: str) -> None:
    if status == highspy.HighsStatus.kError:
        raise ValueError(f"HiGHS refuses this {what}")


def _highs_model(form: Form) -> Any:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(form.variables), len(form.constraints)
    lp.col_cost_, lp.offset_ = form.cost, form.offset
    lp.sense_ = highspy.ObjSense.kMaximize if form.maximise else highspy.ObjSense.kMinimize
    lp.col_lower_, lp.col_upper_ = form.low, form.high
    lp.row_lower_, lp.row_upper_ = form.row_low, form.row_high
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = form.matrix.indptr, form.matrix.indices
    lp.a_matrix_.value_ = form.matrix.data
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    lp.integrality_ = [kinds[int(w)] for w in form.whole] if form.whole.any() else []
    return lp


def _interruptible(highs: Any) -> None:
    highs.HandleKeyboardInterrupt = True
    thread = highs.startSolve()
    try:
        while not highs.wait(0.2)[0]:
            pass
    except KeyboardInterrupt:
        highs.cancelSolve()
        thread.join()
        raise


def _read(form: Form, highs: Any) -> Outcome:
    info, ended = highs.getInfo(), highs.getModelStatus()
    kind = highspy.HighsModelStatus
    work = max(0, info.simplex_iteration_count) + max(0, info.ipm_iteration_count)
    solution = Solution("limit", nodes=max(0, info.mip_node_count), work=work)
    if ended == kind.kInfeasible:
        return Outcome(replace(solution, status="infeasible"))
    if ended in (kind.kUnbounded, kind.kUnboundedOrInfeasible):
        return Outcome(replace(solution, status="unbounded"))
    optimal = ended == kind.kOptimal
    stop = _STOPS.get(ended, "numerics")
    objective = info.objective_function_value
    bound = _bound(form, info, optimal)
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Outcome(replace(solution, bound=bound, stopped_by=stop))
    status: Status = "optimal" if optimal else "feasible"
    found = replace(solution, status=status, objective=objective, bound=bound, gap=_gap(objective, bound))
    return Outcome(replace(found, stopped_by=stop), np.array(highs.getSolution().col_value))


def _bound(form: Form, info: Any, optimal: bool) -> float | None:
    if not form.whole.any():
        return float(info.objective_function_value) if optimal else None
    return float(info.mip_dual_bound) if np.isfinite(info.mip_dual_bound) else None


def _gap(objective: float, bound: float | None) -> float | None:
    if bound is None:
        return None
    return abs(objective - bound) / max(abs(objective), 1e-9)
