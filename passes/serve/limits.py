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
        return f"${_rounded(value * 3600, up, CENTS)}/h"
    if unit == "s":
        return f"{_rounded(value * 1e3, up)}ms" if value < 1 else f"{_rounded(value, up)}s"
    return f"{_rounded(value, up)}{unit}"


CENTS = 2
"""Decimal places of an amount of money, at least."""


def _rounded(value: float, up: bool, places: int = 0) -> str:
    """The text of a figure on the safe side: `DIGITS` significant digits, whole numbers and `places` in full."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(places, DIGITS - 1 - math.floor(math.log10(abs(value))), 0)
    scaled = value * 10.0**decimals
    whole = math.ceil(scaled - NOISE * abs(scaled)) if up else math.floor(scaled + NOISE * abs(scaled))
    before, dot, after = f"{whole / 10.0**decimals:.{decimals}f}".partition(".")
    kept = after[:places] + after[places:].rstrip("0")
    return f"{before}{dot}{kept}" if kept else before


NOISE = 1e-9
"""Relative noise of a solver's figures, which must not move a round one."""
