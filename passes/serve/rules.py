"""Which of the user's rules bind a replica's shape, which its operating point, and which the plan as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hexdsl.ir.diagnostic import Diagnostic, Label, NoPlanError
from hexdsl.ir.spec.rule import Among, Arithmetic, Compare, Expr, Logic, Metric, Number, Objective, Rule, metrics_in
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.metrics import LATENCIES

SHAPES = ("tp", "pp")
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


def rules_of(serve: Serve) -> Rules:
    """The rules of a workflow, those of its phases included.  Raises NoPlanError (P004) for rules not planned yet."""
    rules = [*serve.rules, *(r for phase in serve.phase for r in phase.rules)]
    shape = tuple(r for r in rules if _only(r.expr, SHAPES))
    point = tuple(r for r in rules if _only(r.expr, LATENCIES))
    rest = [r for r in rules if r not in shape and r not in point]
    return Rules(shape, point, tuple(t for r in rest for t in _totals(r)))


def _only(expr: Expr, names: tuple[str, ...]) -> bool:
    return all(m.name in names for m in metrics_in(expr))


def _totals(rule: Rule) -> tuple[Total, ...]:
    expr = rule.expr
    if isinstance(expr, Logic) and expr.op == "and":
        return tuple(t for arg in expr.args for t in _totals(rule.with_(expr=arg)))
    if isinstance(expr, Compare) and expr.op != "!=":
        linear = _linear(expr.left, rule).plus(_linear(expr.right, rule), -1.0)
        return (Total(rule, _strict(linear, expr.op), _loose(expr.op)),)
    if isinstance(expr, Among) and expr.low is not None and expr.high is not None:
        left = _linear(expr.left, rule)
        low, high = left.plus(_linear(expr.low, rule), -1.0), left.plus(_linear(expr.high, rule), -1.0)
        return (Total(rule, low, ">="), Total(rule, high, "<="))
    raise unplanned(rule)


def _loose(op: str) -> Literal["<=", ">=", "=="]:
    return {"<": "<=", ">": ">="}.get(op, op)  # type: ignore[return-value]


def _strict(linear: Linear, op: str) -> Linear:
    """Whole totals turn `<` into at most one less; for others `<` and `<=` are the same."""
    if op not in "<>" or not all(n in WHOLE for n in linear.weights):
        return linear
    return linear.plus(Linear(constant=1.0 if op == "<" else -1.0))


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


def unplanned(rule: Rule | Objective) -> NoPlanError:
    """The refusal of a rule that is understood but not planned yet."""
    help_ = (
        "planned today: rules over `tp` and `pp`; over `ttft`, `tpot`, `latency`; "
        "and linear ones over " + ", ".join(f"`{n}`" for n in TOTALS)
    )
    message = f"`{rule.text}` is checked, but not planned yet"
    return NoPlanError([Diagnostic("P004", message, (Label(rule.span),), help_)])


