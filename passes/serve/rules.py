"""Which of the user's rules bind a replica's shape, which its operating point, and which the plan as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from hexdsl.ir.diagnostic import Diagnostic, Label, NoPlanError
from hexdsl.ir.spec.rule import (
    TOLERANCE,
    Among,
    Arithmetic,
    Compare,
    Expr,
    Logic,
    Metric,
    Number,
    Objective,
    Rule,
    metrics_in,
    number,
)
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.layers import Bools, Floats
from hexdsl.passes.serve.metrics import LATENCIES

SHAPES = ("tp", "pp", "kinds")

SPARE = "spare"
"""The share of the capacity that served requests leave free: linear where a number limits it."""

TOTALS = ("cost", "devices", "replicas", "goodput", "throughput", "energy")
WHOLE = ("devices", "replicas")
"""Totals that are whole numbers: `devices < 8` means at most 7."""


@dataclass(frozen=True)
class Linear:
    """`sum of weight * total + constant`; throughput is in tokens per second unless `requests`."""

    weights: Mapping[str, float] = field(default_factory=dict)
    constant: float = 0.0
    requests: bool = False

    def plus(self, other: Linear, times: float = 1.0) -> Linear:
        """This and `times` the other."""
        names = sorted({*self.weights, *other.weights})
        weights = {n: self.weights.get(n, 0.0) + times * other.weights.get(n, 0.0) for n in names}
        return Linear(weights, self.constant + times * other.constant, self.requests or other.requests)

    def scaled(self, factor: float) -> Linear:
        """`factor` times this."""
        return Linear({n: w * factor for n, w in self.weights.items()}, self.constant * factor, self.requests)


@dataclass(frozen=True)
class Total:
    """A linear rule: `linear op 0`."""

    rule: Rule
    linear: Linear
    op: Literal["<=", ">=", "=="]


@dataclass(frozen=True)
class Rules:
    """The rules of a serving workflow by what they bind."""

    shape: tuple[Rule, ...]
    point: tuple[Rule, ...]
    total: tuple[Total, ...]

    @property
    def names(self) -> frozenset[str]:
        """The totals that any rule names."""
        return frozenset(n for t in self.total for n in t.linear.weights)

    @property
    def filters(self) -> tuple[Rule, ...]:
        """The rules that a replica meets or not, whatever else is in the plan."""
        return (*self.shape, *self.point)

    @property
    def all(self) -> tuple[Rule, ...]:
        return tuple(dict.fromkeys((*self.filters, *(t.rule for t in self.total))))

    def without(self, rule: Rule) -> Rules:
        """All rules but one."""
        shape, point = (tuple(r for r in rules if r != rule) for rules in (self.shape, self.point))
        return Rules(shape, point, tuple(t for t in self.total if t.rule != rule))


def written_rules(serve: Serve) -> tuple[Rule, ...]:
    """The rules of a workflow, those of its phases included."""
    return (*serve.rules, *(r for phase in serve.phase for r in phase.rules))


def phase_of(rule: Rule, serve: Serve) -> str | None:
    """The phase in whose block a rule stands: it binds the replicas that do that phase."""
    return next((phase.name for phase in serve.phase if rule in phase.rules), None)


def rules_of(serve: Serve) -> Rules:
    """The rules of a workflow by what they bind.  Raises NoPlanError (P004) for rules that are not planned yet."""
    rules = written_rules(serve)
    shape = tuple(r for r in rules if _only(r.expr, SHAPES))
    point = tuple(r for r in rules if r not in shape and _only(r.expr, LATENCIES))
    for rule in point:
        if not falling(rule.expr):
            raise unplanned(rule, "a latency rule must allow every lower latency too, such as `p95(ttft) <= 400ms`")
    rest = [r for r in rules if r not in shape and r not in point]
    return Rules(shape, point, tuple(t for r in rest for t in _totals(r)))


def latencies_in(rules: Rules, more: Sequence[Metric]) -> tuple[Metric, ...]:
    """The distinct latencies that rules name, and others, in the order of their first mention."""
    return tuple(dict.fromkeys((*(m for r in rules.point for m in metrics_in(r.expr)), *more)))


def _only(expr: Expr, names: tuple[str, ...]) -> bool:
    return all(m.name in names for m in metrics_in(expr))


def falling(expr: Expr) -> bool:
    """Whether a condition that holds still holds when its metrics fall."""
    if isinstance(expr, Logic):
        return expr.op != "not" and all(falling(arg) for arg in expr.args)
    if isinstance(expr, Among):
        low = _value(expr.low) if expr.low is not None else None
        return expr.high is not None and low is not None and low <= 0 and _signs(expr.left) <= {1}
    if not isinstance(expr, Compare):
        return False
    signs = _signs(expr.left) | {-s for s in _signs(expr.right)}
    return {"<=": signs <= {1}, "<": signs <= {1}, ">=": signs <= {-1}, ">": signs <= {-1}}.get(expr.op, False)


def _signs(expr: Expr) -> set[int]:
    """In which directions a term moves when its metrics rise: 1, -1, both, or none; both where that is not plain."""
    if isinstance(expr, Metric):
        return {1}
    if not isinstance(expr, Arithmetic):
        return set()
    left, right = _signs(expr.left), _signs(expr.right)
    if expr.op in "+-":
        return left | {s if expr.op == "+" else -s for s in right}
    factor = _value(expr.right) if left else _value(expr.left)
    if factor is None or (expr.op == "/" and right):
        return {1, -1}
    return {int(np.sign(factor)) * s for s in left | right} - {0}


def _value(expr: Expr) -> float | None:
    """The value of an expression without metrics."""
    return None if any(metrics_in(expr)) else number(expr, lambda _: 0.0)


def truth(expr: Expr, values: Callable[[Metric], Floats]) -> Bools:
    """`hexdsl.ir.spec.rule.holds` over arrays, for conditions that are `falling`."""
    if isinstance(expr, Logic):
        parts = [truth(arg, values) for arg in expr.args]
        return np.asarray((np.logical_and if expr.op == "and" else np.logical_or).reduce(parts))
    if isinstance(expr, Among):
        assert expr.high is not None
        return _at_most(expr.left, expr.high, values, strict=False)
    assert isinstance(expr, Compare)
    left, right = (expr.left, expr.right) if expr.op[0] == "<" else (expr.right, expr.left)
    return _at_most(left, right, values, strict=len(expr.op) == 1)


def _at_most(left: Expr, right: Expr, values: Callable[[Metric], Floats], strict: bool) -> Bools:
    a, b = (np.asarray(number(side, values)) for side in (left, right))  # type: ignore[arg-type]
    slack = TOLERANCE * np.maximum(np.minimum(np.abs(a), np.abs(b)), 1e-12)
    return np.asarray(a < b - slack if strict else a <= b + slack)


def _totals(rule: Rule) -> tuple[Total, ...]:
    expr = rule.expr
    if isinstance(expr, Logic) and expr.op == "and":
        return tuple(replace(t, rule=rule) for arg in expr.args for t in _totals(rule.with_(expr=arg)))
    if isinstance(expr, Compare) and expr.op != "!=":
        linear = _spare(expr) or _linear(expr.left, rule).plus(_linear(expr.right, rule), -1.0)
        return (Total(rule, _strict(linear, expr.op), _loose(expr.op)),)
    if isinstance(expr, Among) and expr.low is not None and expr.high is not None:
        left = _linear(expr.left, rule)
        low, high = left.plus(_linear(expr.low, rule), -1.0), left.plus(_linear(expr.high, rule), -1.0)
        return (Total(rule, low, ">="), Total(rule, high, "<="))
    raise unplanned(rule)


def _spare(expr: Compare) -> Linear | None:
    """`spare op s` as `(1 - s) throughput - goodput op 0`, both in requests; None for other rules."""
    for metric, limit, sign in ((expr.left, expr.right, 1.0), (expr.right, expr.left, -1.0)):
        if isinstance(metric, Metric) and metric.name == SPARE and isinstance(limit, Number):
            return Linear({"throughput": sign * (1 - limit.value), "goodput": -sign}, requests=True)
    return None


def _loose(op: str) -> Literal["<=", ">=", "=="]:
    return {"<": "<=", ">": ">="}.get(op, op)  # type: ignore[return-value]


def _strict(linear: Linear, op: str) -> Linear:
    """`<` as `<=`: of whole totals at most one less, of others less by more than the slack of comparisons."""
    if op not in "<>":
        return linear
    whole = all(n in WHOLE and w == int(w) for n, w in linear.weights.items()) and linear.constant.is_integer()
    less = 1.0 if whole else 3 * TOLERANCE * abs(linear.constant)
    return linear.plus(Linear(constant=less if op == "<" else -less))


def linear_goal(objective: Objective) -> Linear:
    """An objective over totals as a linear form.  Raises NoPlanError (P004)."""
    return _linear(objective.expr, objective)


def _linear(expr: Expr, rule: Rule | Objective) -> Linear:
    if isinstance(expr, Number):
        return Linear(constant=expr.value, requests=expr.unit == "req/s")
    if isinstance(expr, Metric) and expr.name in TOTALS:
        return Linear({expr.name: 1.0})
    if not isinstance(expr, Arithmetic):
        raise unplanned(rule)
    left, right = _linear(expr.left, rule), _linear(expr.right, rule)
    if expr.op in "+-":
        return left.plus(right, 1.0 if expr.op == "+" else -1.0)
    if not right.weights and (expr.op == "*" or right.constant):
        return left.scaled(right.constant if expr.op == "*" else 1 / right.constant)
    if expr.op == "*" and not left.weights:
        return right.scaled(left.constant)
    raise unplanned(rule)


def unplanned(rule: Rule | Objective, help_: str | None = None) -> NoPlanError:
    """The refusal of a rule that is understood but not planned yet."""
    known = (
        "planned today: rules over `tp`, `pp` and `kinds`; upper limits on `ttft`, `tpot`, `latency`; "
        "a number as limit of `spare`; and linear ones over " + ", ".join(f"`{n}`" for n in TOTALS)
    )
    message = f"`{rule.text}` is checked, but not planned yet"
    return NoPlanError([Diagnostic("P004", message, (Label(rule.span),), help_ or known)])
