"""Rules and objectives: expressions over the metrics and decisions of a workflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Span
from hexdsl.ir.quantity import Unit


class Number(Ir):
    """A constant in base units."""

    ASIDE: ClassVar[tuple[str, ...]] = ("text",)

    kind: Literal["number"] = "number"
    value: float
    unit: str = Field("", description="base unit, such as `s` or `req/s`; empty for a plain number")
    text: str = ""


class Metric(Ir):
    """`ttft`, `p95(ttft)`, `tokens_per_second(train)`: a figure of the plan, a statistic of it, or of a part."""

    kind: Literal["metric"] = "metric"
    name: str
    stat: str = Field("", description="`mean`, `max` or `p1` to `p99`; empty where the metric is one number")
    of: str = Field("", description="the part that is meant, such as a stage")

    def __str__(self) -> str:
        inner = f"{self.name}({self.of})" if self.of else self.name
        return f"{self.stat}({inner})" if self.stat else inner


class Arithmetic(Ir):
    """Two expressions under `+ - * /`."""

    kind: Literal["arithmetic"] = "arithmetic"
    op: Literal["+", "-", "*", "/"]
    left: Expr
    right: Expr


class Compare(Ir):
    """Two expressions compared."""

    kind: Literal["compare"] = "compare"
    op: Literal["<=", ">=", "==", "!=", "<", ">"]
    left: Expr
    right: Expr


class Among(Ir):
    """`tp in [1, 2, 4]` (values) or `pp in 1..16` (low and high, both included)."""

    kind: Literal["among"] = "among"
    left: Expr
    values: tuple[Expr, ...] = ()
    low: Expr | None = None
    high: Expr | None = None


class Logic(Ir):
    """`and`, `or`, `not` over conditions."""

    kind: Literal["logic"] = "logic"
    op: Literal["and", "or", "not"]
    args: tuple[Expr, ...]


Expr = Annotated[Number | Metric | Arithmetic | Compare | Among | Logic, Field(discriminator="kind")]


class Rule(Ir):
    """A condition that every plan must meet, with the user's text and place."""

    ASIDE: ClassVar[tuple[str, ...]] = ("text", "span")

    expr: Expr
    text: str
    span: Span


class Objective(Ir):
    """What to make large or small; several are in order of priority."""

    ASIDE: ClassVar[tuple[str, ...]] = ("text", "span")

    sense: Literal["maximize", "minimize"]
    expr: Expr
    text: str
    span: Span


@dataclass(frozen=True)
class MetricInfo:
    """A metric or decision that a workflow's rules may name.

    `stats`: a distribution, of which rules need a statistic such as `p95(...)`.  `decision`: chosen by the compiler;
    `name = value` pins it.  `parts`: it takes the name of one of these, such as `attainment(deadline)`.
    """

    name: str
    unit: Unit
    description: str
    stats: bool = False
    decision: bool = False
    parts: tuple[str, ...] = ()


def metrics_in(expr: Expr) -> Iterator[Metric]:
    """Every metric of an expression, left to right."""
    if isinstance(expr, Metric):
        yield expr
    for part in children(expr):
        yield from metrics_in(part)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct sub-expressions."""
    if isinstance(expr, (Arithmetic, Compare)):
        return (expr.left, expr.right)
    if isinstance(expr, Logic):
        return expr.args
    if isinstance(expr, Among):
        return (expr.left, *expr.values, *(e for e in (expr.low, expr.high) if e is not None))
    return ()


TOLERANCE = 1e-6
"""Relative slack of comparisons, so that a plan on the boundary is not rejected for rounding."""


def number(expr: Expr, value_of: Callable[[Metric], float]) -> float:
    """The value of an arithmetic expression.  Raises ValueError for a condition, ZeroDivisionError as usual."""
    if isinstance(expr, Number):
        return expr.value
    if isinstance(expr, Metric):
        return value_of(expr)
    if not isinstance(expr, Arithmetic):
        raise ValueError("a condition is not a number")
    left, right = number(expr.left, value_of), number(expr.right, value_of)
    return {"+": left + right, "-": left - right, "*": left * right}[expr.op] if expr.op != "/" else left / right


def holds(expr: Expr, value_of: Callable[[Metric], float]) -> bool:
    """Whether a condition is true.  Raises ValueError where the expression is not a condition."""
    if isinstance(expr, Logic):
        truths = [holds(arg, value_of) for arg in expr.args]
        return {"and": all(truths), "or": any(truths), "not": not truths[0]}[expr.op]
    if isinstance(expr, Compare):
        return compare(expr.op, number(expr.left, value_of), number(expr.right, value_of))
    if isinstance(expr, Among):
        return _among(expr, value_of)
    raise ValueError("a number is not a condition")


def compare(op: str, left: float, right: float) -> bool:
    """`left op right` with the shared tolerance."""
    # The smaller side sets the slack: an infinite latency is not within a millionth of its limit.
    slack = TOLERANCE * max(min(abs(left), abs(right)), 1e-12)
    equal = abs(left - right) <= slack
    below = left < right - slack
    return {"<=": below or equal, ">=": not below, "==": equal, "!=": not equal, "<": below, ">": not (below or equal)}[
        op
    ]


def _among(expr: Among, value_of: Callable[[Metric], float]) -> bool:
    left = number(expr.left, value_of)
    if expr.low is not None and expr.high is not None:
        return compare(">=", left, number(expr.low, value_of)) and compare("<=", left, number(expr.high, value_of))
    return any(compare("==", left, number(v, value_of)) for v in expr.values)
