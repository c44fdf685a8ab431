"""Values: what an expression of a spec comes to, in base units, with names and parameters resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Span
from hexdsl.ir.quantity import UNITS, Quantity, Unit, describe
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.values import Call, Word, suggestion
from hexdsl.lang import nodes, units
from hexdsl.lang.scope import BAD, Entry, Module, Report

PARAM_TYPES: dict[str, str] = {
    "Bytes": "bytes", "Memory": "bytes", "Bandwidth": "bytes_per_s", "Time": "s", "Seconds": "s",
    "Compute": "flop_per_s", "Rate": "req_per_s", "TokenRate": "tok_per_s", "Price": "usd_per_gpu_s",
    "Cost": "usd_per_s", "Power": "w", "Tokens": "tok",
}  # fmt: skip
"""The type names of `param name: Type`, as the suffix of the unit that they stand for."""

_BY_SUFFIX: dict[str, Unit] = {unit.suffix: unit for unit in UNITS if unit.suffix}

Value = Any
"""Quantity, str, Word, bool, Call, a resolved block, a tuple, a dict, or BAD."""


@dataclass
class Place:
    """Where a value and its parts were written, so that a schema's complaint finds its line."""

    span: Span
    parts: dict[str | int, Place] = field(default_factory=dict)

    def at(self, loc: tuple[str | int, ...]) -> Place:
        """The deepest written part along a path; steps that were not written (tags of a union) are passed over."""
        place = self
        for step in loc:
            place = place.parts.get(step, place)
        return place


@dataclass
class Evaluator:
    """Evaluates expressions.  `block` resolves a named block; parameters from outside are in `given`."""

    report: Report
    block: Callable[[Entry], Value]
    given: Mapping[str, Value] = field(default_factory=dict)
    memo: dict[int, Value] = field(default_factory=dict)
    active: list[Entry] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def value(self, node: nodes.Expr, module: Module) -> Value:
        """What `node` comes to in `module`; BAD where that was reported as an error."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            help_ = "comparisons belong in rules, or in fields such as `when`"
            return self.report.error("E112", "a condition is not a value", node.span, help_)
        return method(node, module)

    def place(self, node: nodes.Expr) -> Place:
        """The places of a value and of its written parts."""
        place = Place(node.span)
        if isinstance(node, nodes.ListLit):
            place.parts.update(enumerate(self.place(item) for item in node.items))
        if isinstance(node, nodes.ObjectLit):
            place.parts.update({p.name: self.place(p.value) for p in node.pairs})
        if isinstance(node, nodes.Call):
            place.parts.update({p.name: self.place(p.value) for p in node.named})
        return place

    def entry(self, entry: Entry) -> Value:
        """The value of a declared name."""
        if isinstance(entry.node, nodes.Block):
            return self.block(entry)
        if id(entry) not in self.memo:
            self.memo[id(entry)] = self._declared(entry)
        return self.memo[id(entry)]

    def _declared(self, entry: Entry) -> Value:
        if entry in self.active:
            return self.report.error("E024", f"`{entry.name}` is defined by itself", entry.span, "give it a value")
        self.active.append(entry)
        try:
            node = entry.node
            return self.value(node.value, entry.module) if isinstance(node, nodes.Let) else self._param(entry)
        finally:
            self.active.pop()

    def _param(self, entry: Entry) -> Value:
        node = entry.node
        assert isinstance(node, nodes.Param)
        self.used.add(entry.name)
        if entry.name in self.given:
            return self._typed(node, self.given[entry.name])
        if node.default is None:
            help_ = f"give it one with `-D {entry.name}=VALUE`, or write `param {entry.name} = VALUE`"
            return self.report.error("E030", f"parameter `{entry.name}` has no value", entry.span, help_)
        return self._typed(node, self.value(node.default, entry.module))

    def _typed(self, node: nodes.Param, value: Value) -> Value:
        if node.type is None or value is BAD:
            return value
        unit = _BY_SUFFIX.get(PARAM_TYPES.get(node.type.name, ""))
        if unit is None:
            return self.report.error(
                "E032", f"`{node.type.name}` is not a type", node.type.span, suggestion(node.type.name, PARAM_TYPES)
            )
        if isinstance(value, Quantity) and value.dim in unit.dims:
            return value
        got = describe(value) if isinstance(value, Quantity) else "not a number"
        message = f"parameter `{node.name}` is {got}, not {unit.words}"
        return self.report.error("E032", message, node.name_span, f"for example `{unit.example}`")

    def _name(self, node: nodes.Name, module: Module) -> Value:
        if node.name in ("true", "false"):
            return node.name == "true"
        entry = module.find(node.name)
        return Word(node.name) if entry is None else self.entry(entry)

    def _member(self, node: nodes.Member, module: Module) -> Value:
        alias = node.base.name if isinstance(node.base, nodes.Name) else ""
        other = module.aliases.get(alias)
        if other is None:
            help_ = suggestion(alias, module.aliases) if module.aliases else 'write `import "file.hex" as NAME` first'
            return self.report.error("E020", f"`{alias}` is not an imported file", node.base.span, help_)
        entry = other.entries.get(node.name)
        if entry is None:
            help_ = suggestion(node.name, other.entries) if other.entries else None
            return self.report.error("E020", f"`{alias}` has no `{node.name}`", node.name_span, help_)
        return self.entry(entry)

    def _literal(self, node: nodes.Number | nodes.QuantityLit | nodes.Money, module: Module) -> Value:
        return self._guard(node.span, units.quantity, node.text)

    _number = _quantitylit = _money = _literal

    def _string(self, node: nodes.String, module: Module) -> Value:
        return node.value

    def _listlit(self, node: nodes.ListLit, module: Module) -> Value:
        items = tuple(self.value(item, module) for item in node.items)
        return BAD if BAD in items else items

    def _objectlit(self, node: nodes.ObjectLit, module: Module) -> Value:
        return self._pairs(node.pairs, module)

    def _pairs(self, pairs: tuple[nodes.Named, ...], module: Module) -> Value:
        found: dict[str, Value] = {}
        for pair in pairs:
            if pair.name in found:
                return self.report.error("E103", f"`{pair.name}` is set twice", pair.name_span, "keep one of them")
            found[pair.name] = self.value(pair.value, module)
        return BAD if any(v is BAD for v in found.values()) else found

    def _call(self, node: nodes.Call, module: Module) -> Value:
        if not isinstance(node.func, nodes.Name):
            return self.report.error("E112", "only a plain word may be called", node.func.span)
        args = tuple(self.value(arg, module) for arg in node.args)
        named = self._pairs(node.named, module)
        return BAD if named is BAD or BAD in args else Call(node.func.name, args, named)

    def _range(self, node: nodes.Range, module: Module) -> Value:
        low, high = self.value(node.low, module), self.value(node.high, module)
        return BAD if BAD in (low, high) else {"low": plain(low), "high": plain(high)}

    def _neg(self, node: nodes.Neg, module: Module) -> Value:
        value = self.value(node.value, module)
        return self._arithmetic(node, units.neg, value)

    def _binop(self, node: nodes.BinOp, module: Module) -> Value:
        left, right = self.value(node.left, module), self.value(node.right, module)
        if node.op == "*" and isinstance(right, Gpu):
            return BAD if left is BAD else {"count": left, "gpu": right}
        if node.op == "*" and isinstance(left, Gpu):
            return BAD if right is BAD else {"count": right, "gpu": left}
        operation = {"+": units.add, "-": units.sub, "*": units.mul, "/": units.div}[node.op]
        return self._arithmetic(node, operation, left, right)

    def _item(self, node: nodes.Item, module: Module) -> Value:
        base, index = self.value(node.base, module), self.value(node.index, module)
        if BAD in (base, index):
            return BAD
        position = plain(index)
        if not isinstance(base, tuple) or not isinstance(position, int) or not 0 <= position < len(base):
            return self.report.error("E112", "this item does not exist", node.span, "items count from 0")
        return base[position]

    def _arithmetic(self, node: nodes.Expr, operation: Callable[..., Quantity], *operands: Value) -> Value:
        if any(o is BAD for o in operands):
            return BAD
        wrong = next((o for o in operands if not isinstance(o, Quantity)), None)
        if wrong is not None:
            help_ = "a name must be declared with `let` or `param`" if isinstance(wrong, Word) else None
            return self.report.error("E112", f"{said(wrong)} is not a number", node.span, help_)
        return self._guard(node.span, operation, *operands)

    def _guard(self, span: Span, operation: Callable[..., Quantity], *operands: Any) -> Value:
        try:
            return operation(*operands)
        except units.UnitError as error:
            return self.report.error("E110", error.message, span, error.help)


def plain(value: Value) -> Value:
    """A whole Quantity without a dimension as an int; anything else unchanged."""
    if isinstance(value, Quantity) and not value.dim and value.value == int(value.value):
        return int(value.value)
    return value


def said(value: Value) -> str:
    """A value in the words of a message."""
    if isinstance(value, Word):
        return f"`{value}`"
    if isinstance(value, Quantity):
        return f"`{value.text}`" if value.text else describe(value)
    if isinstance(value, Ir):
        return f"the {getattr(type(value), 'KIND', 'block')} `{getattr(value, 'name', '')}`"
    return {str: "a string", bool: "true or false", tuple: "a list", dict: "a group of values"}.get(type(value), "this")
