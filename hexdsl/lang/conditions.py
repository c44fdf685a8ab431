"""Rules, objectives and `when` conditions: expressions over metrics, checked for names, statistics and units."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

from hexdsl.ir.diagnostic import Span
from hexdsl.ir.quantity import SHARE, Dimension, Quantity, describe, dimension, spell
from hexdsl.ir.spec.rule import Among, Arithmetic, Compare, Expr, Logic, Metric, MetricInfo, Number, metrics_in
from hexdsl.ir.values import Word, nearest, suggestion
from hexdsl.lang import nodes
from hexdsl.lang.evaluate import Evaluator, said
from hexdsl.lang.scope import Module
from hexdsl.lang.source import text_of

_STAT = re.compile(r"(mean|max|p[1-9][0-9]?)")

Dims = frozenset[Dimension] | None
"""The dimensions that an expression may have; None where anything is accepted."""


class Wrong(Exception):
    """The expression was reported as wrong."""


@dataclass(frozen=True)
class Side:
    """A number in a condition: its expression, the dimensions that it may have, and where it stands."""

    expr: Expr
    dims: Dims
    node: nodes.Expr
    info: MetricInfo | None = None
    value: Quantity | None = None

    @property
    def what(self) -> str:
        """Its dimension in words."""
        if self.value is not None:
            return describe(self.value)
        if self.info is not None:
            return self.info.unit.words
        return "in " + " or ".join(sorted(spell(d) for d in self.dims or ()))


@dataclass(frozen=True)
class Conditions:
    """Reads the conditions of one block, which may name `metrics` (or, in a flow, the plain `words`)."""

    evaluator: Evaluator
    module: Module
    owner: str
    metrics: tuple[MetricInfo, ...] = ()
    words: tuple[str, ...] = ()

    def rule(self, node: nodes.Expr) -> Expr | None:
        """The condition that `node` says, or None where it was reported as wrong."""
        try:
            expr = self._condition(node)
            if not any(metrics_in(expr)):
                raise self._fail("E120", "this condition names no metric", node.span, suggestion("", self._names()))
        except Wrong:
            return None
        return expr

    def goal(self, node: nodes.Expr) -> Expr | None:
        """The number that an objective makes large or small, or None where it was reported as wrong."""
        try:
            side = self._number(node)
            if not any(metrics_in(side.expr)):
                raise self._fail("E120", "an objective needs a metric", node.span, suggestion("", self._names()))
        except Wrong:
            return None
        return side.expr

    def _fail(self, code: str, message: str, span: Span, help: str | None = None) -> Wrong:
        self.evaluator.report.error(code, message, span, help)
        return Wrong()

    # Conditions.

    def _condition(self, node: nodes.Expr) -> Expr:
        if isinstance(node, (nodes.And, nodes.Or)):
            op = "and" if isinstance(node, nodes.And) else "or"
            return Logic(op=op, args=(self._condition(node.left), self._condition(node.right)))
        if isinstance(node, nodes.Not):
            return Logic(op="not", args=(self._condition(node.value),))
        if isinstance(node, nodes.Compare):
            left, right = self._number(node.left), self._number(node.right)
            self._comparable(left, right, pins=node.op == "==")
            return Compare(op=node.op, left=left.expr, right=right.expr)
        if isinstance(node, nodes.In):
            return self._among(node)
        if self.words and isinstance(node, nodes.Name):
            return self._number(node).expr
        help_ = "compare it, such as `cost <= $40/h`; to set a field, write `name = value`"
        raise self._fail("E123", "this is not a condition", node.span, help_)

    def _among(self, node: nodes.In) -> Among:
        left = self._number(node.left)
        if isinstance(node.right, nodes.Range):
            return self._between(left, node.right)
        if not isinstance(node.right, nodes.ListLit):
            raise self._fail("E123", "`in` needs a list or a range", node.right.span, "such as `[1, 2, 4]` or `1..8`")
        if not node.right.items:
            raise self._fail("E123", "nothing is in an empty list", node.right.span, "such as `[1, 2, 4]`")
        values = [self._number(item) for item in node.right.items]
        for value in values:
            self._comparable(left, value, pins=True)
        return Among(left=left.expr, values=tuple(v.expr for v in values))

    def _between(self, left: Side, node: nodes.Range) -> Among:
        low, high = self._number(node.low), self._number(node.high)
        self._comparable(left, low, pins=True)
        self._comparable(left, high, pins=True)
        if low.value and high.value and low.value.value > high.value.value:
            raise self._fail("E113", "the range is empty", node.span, "write `low..high` with low <= high")
        return Among(left=left.expr, low=low.expr, high=high.expr)

    def _comparable(self, left: Side, right: Side, pins: bool = False) -> None:
        """Both sides have one unit; what a decision is pinned to is a value that it can have."""
        self._same(left, right)
        for side, other in ((left, right), (right, left)):
            if side.info is None or other.value is None:
                continue
            if pins and side.info.decision:
                self._possible(side.info, other)
            if side.info.unit == SHARE and other.value.value > 1:
                message = f"`{side.info.name}` is a share: `{self._text(other)}` is more than all"
                raise self._fail("E113", message, other.node.span, "write a percentage, such as `60%`")

    def _possible(self, info: MetricInfo, side: Side) -> None:
        try:
            info.unit.accept(side.value)
        except PydanticCustomError as error:
            wanted = error.message().endswith("wanted here")
            message = f"`{info.name}`" + (" is a whole number" if wanted else error.message().removeprefix("this"))
            raise self._fail("E113", message, side.node.span, f"for example `{info.unit.example}`") from None

    def _same(self, left: Side, right: Side) -> None:
        if left.dims is None or right.dims is None or left.dims & right.dims:
            return
        got, want = (left, right) if left.value is not None and right.value is None else (right, left)
        message = f"`{self._text(got)}` is {got.what}, but `{self._text(want)}` is {want.what}"
        example = want.info.unit.example if want.info else None
        raise self._fail("E122", message, got.node.span, f"for example `{example}`" if example else None)

    def _text(self, side: Side) -> str:
        return " ".join(text_of(self.module.source, side.node.span).split())

    # Numbers.

    def _number(self, node: nodes.Expr) -> Side:
        if isinstance(node, nodes.Name):
            return self._name(node)
        if isinstance(node, nodes.Call):
            return self._call(node)
        if isinstance(node, nodes.BinOp) and self._has_metric(node):
            return self._arithmetic(node)
        if isinstance(node, nodes.Neg) and self._has_metric(node):
            inner = self._number(node.value)
            return Side(Arithmetic(op="*", left=Number(value=-1.0, text="-1"), right=inner.expr), inner.dims, node)
        if isinstance(node, (nodes.Compare, nodes.In, nodes.And, nodes.Or, nodes.Not)):
            raise self._fail(
                "E123", "a condition is not a number", node.span, "write it as a rule on a line of its own"
            )
        return self._constant(node)

    def _arithmetic(self, node: nodes.BinOp) -> Side:
        left, right = self._number(node.left), self._number(node.right)
        expr = Arithmetic(op=node.op, left=left.expr, right=right.expr)
        if node.op in "+-":
            self._same(left, right)
            both = left.dims is not None and right.dims is not None
            return Side(
                expr, left.dims & right.dims if left.dims and right.dims and both else left.dims or right.dims, node
            )
        if node.op == "/" and right.value is not None and right.value.value == 0:
            raise self._fail("E112", f"division by zero: `{self._text(right)}` is zero", right.node.span)
        if left.dims is None or right.dims is None:
            return Side(expr, None, node)
        sign = 1 if node.op == "*" else -1
        return Side(expr, frozenset(_times(x, y, sign) for x in left.dims for y in right.dims), node)

    def _name(self, node: nodes.Name) -> Side:
        if node.name in self.words:
            return Side(Metric(name=node.name), None, node)
        info = self._info(node.name)
        if info is not None and self.module.find(node.name) is None:
            return self._metric(info, node)
        return self._constant(node)

    def _metric(self, info: MetricInfo, node: nodes.Name) -> Side:
        if info.stats:
            help_ = f"such as `p95({info.name})` or `mean({info.name})`"
            raise self._fail(
                "E121", f"`{info.name}` varies from request to request: say which statistic", node.span, help_
            )
        if info.parts:
            forms = (f"{info.name}({part})" for part in info.parts)
            raise self._fail("E121", f"`{info.name}` needs a part", node.span, suggestion("", forms))
        return Side(Metric(name=info.name), frozenset(info.unit.dims), node, info)

    def _call(self, node: nodes.Call) -> Side:
        func = node.func.name if isinstance(node.func, nodes.Name) else ""
        inner = node.args[0] if len(node.args) == 1 and not node.named else None
        name = inner.name if isinstance(inner, nodes.Name) else ""
        info = self._info(func)
        if info is not None and info.parts:
            if name not in info.parts:
                help_ = suggestion(name, (f"{func}({part})" for part in info.parts))
                raise self._fail("E121", f"`{func}` is not known of that part", node.span, help_)
            return Side(Metric(name=func, of=name), frozenset(info.unit.dims), node, info)
        if not _STAT.fullmatch(func):
            raise self._no_function(func, info, node)
        target = self._info(name)
        if target is None or inner is None:
            raise self._no_target(func, name, node)
        if not target.stats:
            raise self._fail("E121", f"`{name}` is one number: it has no `{func}`", node.span, f"write `{name}`")
        return Side(Metric(name=name, stat=func), frozenset(target.unit.dims), node, target)

    def _no_function(self, func: str, info: MetricInfo | None, node: nodes.Call) -> Wrong:
        if info is not None:
            form = f"p95({func})" if info.stats else func
            return self._fail("E121", f"`{func}` takes nothing in parentheses", node.func.span, f"write `{form}`")
        if re.fullmatch(r"p\d+", func):
            return self._fail("E120", f"`{func}` is not a percentile", node.func.span, "from `p1` to `p99`")
        known = ("mean", "max", "p50", "p95", "p99", *(m.name for m in self.metrics if m.parts))
        return self._fail("E120", f"`{func}` is not a statistic or metric", node.func.span, suggestion(func, known))

    def _no_target(self, func: str, name: str, node: nodes.Call) -> Wrong:
        distributions = [m.name for m in self.metrics if m.stats]
        span = node.args[0].span if len(node.args) == 1 else node.span
        if not name:
            return self._fail("E121", f"`{func}` needs the name of one metric", span, suggestion("", distributions))
        close = nearest(name, distributions)
        help_ = f"did you mean `{close}`?" if close else suggestion(name, distributions)
        return self._fail("E120", f"`{name}` is not a metric of {self.owner}", span, help_)

    def _constant(self, node: nodes.Expr) -> Side:
        value = self.evaluator.value(node, self.module)
        if isinstance(value, Quantity):
            expr = Number(value=value.value, unit=spell(value.dim) if value.dim else "", text=value.text)
            return Side(expr, frozenset({value.dim}), node, value=value)
        if isinstance(value, Word):
            raise self._unknown(str(value), node.span)
        if isinstance(value, (str, bool, tuple, dict)) or hasattr(value, "KIND"):
            help_ = "metrics and numbers are written without quotes" if isinstance(value, str) else None
            raise self._fail("E120", f"{said(value)} is not a metric or a number", node.span, help_)
        raise Wrong()

    def _unknown(self, name: str, span: Span) -> Wrong:
        declared = [n for n, entry in self.module.declared() if not entry.kind]
        close = nearest(name, (*self._names(), *declared))
        help_ = f"did you mean `{close}`?" if close else suggestion(name, self._names())
        return self._fail("E120", f"`{name}` is not a metric of {self.owner}", span, help_)

    def _names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.metrics) or self.words

    def _info(self, name: str) -> MetricInfo | None:
        return next((m for m in self.metrics if m.name == name), None)

    def _has_metric(self, node: nodes.Expr) -> bool:
        if isinstance(node, nodes.BinOp):
            return self._has_metric(node.left) or self._has_metric(node.right)
        if isinstance(node, nodes.Neg):
            return self._has_metric(node.value)
        if isinstance(node, nodes.Name):
            return node.name in self._names() and self.module.find(node.name) is None
        return isinstance(node, nodes.Call)


def _times(left: Dimension, right: Dimension, sign: int) -> Dimension:
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + sign * power
    return dimension(**powers)
