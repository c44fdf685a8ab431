"""Rules of the form `metric op number`: their limit, and other limits said in the same unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hexdsl.ir.spec.rule import Compare, Metric, Number, Rule
from hexdsl.passes.serve.metrics import LATENCIES
from hexdsl.passes.serve.rules import Linear

FLIPPED = {"<=": ">=", "<": ">", ">=": "<=", ">": "<"}

DIGITS = 3
"""Significant digits of a limit that is said."""


@dataclass(frozen=True)
class Limit:
    """The metric of a rule and on which side its limit is; `upper` for `metric <= number`."""

    metric: Metric
    unit: str
    upper: bool

    @property
    def linear(self) -> Linear:
        """The metric as a linear form over totals."""
        assert self.metric.name not in LATENCIES
        return Linear({self.metric.name: 1.0}, requests=self.unit == "req/s")


def limit_of(rule: Rule) -> Limit | None:
    """The limit of a rule `metric op number` or `number op metric`, None for rules of other forms."""
    expr = rule.expr
    if not isinstance(expr, Compare) or expr.op not in FLIPPED:
        return None
    if isinstance(expr.left, Metric) and isinstance(expr.right, Number):
        return Limit(expr.left, expr.right.unit, expr.op[0] == "<")
    if isinstance(expr.right, Metric) and isinstance(expr.left, Number):
        return Limit(expr.right, expr.left.unit, FLIPPED[expr.op][0] == "<")
    return None


def shown(value: float, unit: str, up: bool = True) -> str:
    """A figure in the user's units, rounded up (or down), so that it can be written as a limit and holds."""
    if unit == "usd/s":
        return f"${_rounded(value * 3600, up, 2)}/h"
    if unit == "s":
        return f"{_rounded(value * 1e3, up)}ms" if value < 1 else f"{_rounded(value, up)}s"
    return f"{_rounded(value, up)}{unit}"


def _rounded(value: float, up: bool, places: int | None = None) -> str:
    """The decimal text of a figure to `DIGITS` significant digits, or at least so many places, on the safe side."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    decimals = DIGITS - 1 - math.floor(math.log10(abs(value)))
    decimals = max(decimals, places) if places is not None else decimals
    scaled = value * 10.0**decimals
    whole = math.ceil(scaled - 1e-6) if up else math.floor(scaled + 1e-6)
    text = f"{whole / 10.0**decimals:.{max(0, decimals)}f}"
    return text if places is not None or "." not in text else text.rstrip("0").rstrip(".")
