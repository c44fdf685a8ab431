"""Rules, objectives and `when` conditions: expressions over metrics, checked for names, statistics and units."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hexdsl.ir.diagnostic import Span
from hexdsl.ir.quantity import PLAIN, Dimension, Quantity, dimension, spell
from hexdsl.ir.spec.rule import Among, Arithmetic, Compare, Expr, Logic, Metric, MetricInfo, Number
from hexdsl.ir.values import Word, suggestion
from hexdsl.lang import nodes
from hexdsl.lang.evaluate import Evaluator, said
from hexdsl.lang.scope import Module

_STAT = re.compile(r"^(mean|max|p[1-9][0-9]?)$")

Dims = frozenset[Dimension] | None
"""The dimensions that an expression may have; None where anything is accepted."""


class Wrong(Exception):
    """The expression was reported as wrong."""


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
            expr, _ = self._condition(node)
        except Wrong:
            return None
        return expr

    def goal(self, node: nodes.Expr) -> Expr | None:
        """The number that an objective makes large or small, or None where it was reported as wrong."""
        try:
            expr, _ = self._number(node)
        except Wrong:
            return None
        return expr

    def _fail(self, code: str, message: str, span: Span, help: str | None = None) -> Wrong:
        self.evaluator.report.error(code, message, span, help)
        return Wrong()

    def _condition(self, node: nodes.Expr) -> tuple[Expr, Dims]:
        if isinstance(node, (nodes.And, nodes.Or)):
            op = "and" if isinstance(node, nodes.And) else "or"
            return Logic(op=op, args=(self._condition(node.left)[0], self._condition(node.right)[0])), None
        if isinstance(node, nodes.Not):
            return Logic(op="not", args=(self._condition(node.value)[0],)), None
        if isinstance(node, nodes.Compare):
            left, right = self._pair(node.left, node.right)
            return Compare(op=node.op, left=left, right=right), None
        if isinstance(node, nodes.In):
            return self._among(node), None
        if self.words and isinstance(node, nodes.Name):
            return self._number(node)
        help_ = "compare it, such as `cost <= $40/h`; to set a field, write `name = value`"
        raise self._fail("E123", "a rule must be a condition", node.span, help_)

    def _pair(self, left: nodes.Expr, right: nodes.Expr) -> tuple[Expr, Expr]:
        (a, a_dims), (b, b_dims) = self._number(left), self._number(right)
        self._same(a_dims, b_dims, right if isinstance(b, Number) else left)
        return a, b

    def _same(self, left: Dims, right: Dims, node: nodes.Expr) -> None:
        if left is None or right is None or left & right:
            return
        want, got = (left, right) if len(right) == 1 else (right, left)
        names = " or ".join(sorted(_unit_name(d) for d in want))
        message = f"{' or '.join(sorted(_unit_name(d) for d in got))} cannot be compared with {names}"
        raise self._fail("E122", message, node.span, self._unit_help(want))

    def _unit_help(self, dims: frozenset[Dimension]) -> str | None:
        units = (m.unit for m in self.metrics if set(m.unit.dims) & dims)
        example = next((u.example for u in units), None)
        return f"for example `{example}`" if example else None

    def _among(self, node: nodes.In) -> Among:
        left, dims = self._number(node.left)
        if isinstance(node.right, nodes.Range):
            low, low_dims = self._number(node.right.low)
            high, high_dims = self._number(node.right.high)
            self._same(dims, low_dims, node.right.low)
            self._same(dims, high_dims, node.right.high)
            return Among(left=left, low=low, high=high)
        if not isinstance(node.right, nodes.ListLit):
            raise self._fail("E123", "`in` needs a list or a range", node.right.span, "such as `[1, 2, 4]` or `1..8`")
        values = [(item, *self._number(item)) for item in node.right.items]
        for item, _, item_dims in values:
            self._same(dims, item_dims, item)
        return Among(left=left, values=tuple(expr for _, expr, _ in values))

    def _number(self, node: nodes.Expr) -> tuple[Expr, Dims]:
        if isinstance(node, nodes.Name):
            return self._name(node)
        if isinstance(node, nodes.Call):
            return self._call(node)
        if isinstance(node, nodes.BinOp) and self._has_metric(node):
            return self._arithmetic(node)
        if isinstance(node, (nodes.Compare, nodes.In, nodes.And, nodes.Or, nodes.Not)):
            raise self._fail("E123", "a condition is not a number", node.span)
        return self._constant(node)

    def _arithmetic(self, node: nodes.BinOp) -> tuple[Expr, Dims]:
        (left, a), (right, b) = self._number(node.left), self._number(node.right)
        expr = Arithmetic(op=node.op, left=left, right=right)
        if node.op in "+-":
            self._same(a, b, node.right)
            return expr, a if b is None else b if a is None else a & b
        sign = 1 if node.op == "*" else -1
        return expr, None if a is None or b is None else frozenset(_times(x, y, sign) for x in a for y in b)

    def _name(self, node: nodes.Name) -> tuple[Expr, Dims]:
        if node.name in self.words:
            return Metric(name=node.name), None
        info = self._info(node.name)
        if info is not None and self.module.find(node.name) is None:
            return self._metric(info, node.span)
        return self._constant(node)

    def _metric(self, info: MetricInfo, span: Span) -> tuple[Expr, Dims]:
        if info.stats:
            help_ = f"such as `p95({info.name})` or `mean({info.name})`"
            raise self._fail("E121", f"`{info.name}` varies from request to request: say which statistic", span, help_)
        if info.of:
            raise self._fail("E121", f"`{info.name}` needs a part", span, f"such as `{info.name}(train)`")
        return Metric(name=info.name), frozenset(info.unit.dims)

    def _call(self, node: nodes.Call) -> tuple[Expr, Dims]:
        func = node.func.name if isinstance(node.func, nodes.Name) else ""
        inner = node.args[0] if len(node.args) == 1 and not node.named else None
        info = self._info(func)
        if info is not None and info.of and isinstance(inner, nodes.Name):
            return Metric(name=func, of=inner.name), frozenset(info.unit.dims)
        if not _STAT.match(func):
            known = ("mean", "max", "p50", "p95", "p99", *(m.name for m in self.metrics if m.of))
            raise self._fail("E120", f"`{func}` is not a statistic or metric", node.span, suggestion(func, known))
        name = inner.name if isinstance(inner, nodes.Name) else ""
        target = self._info(name)
        if target is None:
            raise self._unknown(name, node.args[0].span if node.args else node.span)
        if not target.stats:
            raise self._fail("E121", f"`{name}` is one number: it has no `{func}`", node.span, f"write `{name}`")
        return Metric(name=name, stat=func), frozenset(target.unit.dims)

    def _constant(self, node: nodes.Expr) -> tuple[Expr, Dims]:
        value = self.evaluator.value(node, self.module)
        if isinstance(value, Quantity):
            return Number(value=value.value, unit=spell(value.dim) if value.dim else "", text=value.text), frozenset(
                {value.dim}
            )
        if isinstance(value, Word):
            raise self._unknown(str(value), node.span)
        if isinstance(value, (str, bool, tuple, dict)) or hasattr(value, "KIND"):
            raise self._fail("E120", f"{said(value)} is not a metric or a number", node.span)
        raise Wrong()

    def _unknown(self, name: str, span: Span) -> Wrong:
        known = tuple(m.name for m in self.metrics) or self.words
        return self._fail("E120", f"`{name}` is not a metric of {self.owner}", span, suggestion(name, known))

    def _info(self, name: str) -> MetricInfo | None:
        return next((m for m in self.metrics if m.name == name), None)

    def _has_metric(self, node: nodes.Expr) -> bool:
        if isinstance(node, nodes.BinOp):
            return self._has_metric(node.left) or self._has_metric(node.right)
        if isinstance(node, nodes.Name):
            known = self._info(node.name) is not None or node.name in self.words
            return known and self.module.find(node.name) is None
        return isinstance(node, nodes.Call)


def _unit_name(dim: Dimension) -> str:
    return "a plain number" if dim == PLAIN else f"`{spell(dim)}`"


def _times(left: Dimension, right: Dimension, sign: int) -> Dimension:
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + sign * power
    return dimension(**powers)
