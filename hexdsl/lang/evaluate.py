"""Values: what an expression of a spec comes to, in base units, with names and parameters resolved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Span
from hexdsl.ir.quantity import UNITS, Quantity, Unit, describe
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.values import Call, Word, suggestion
from hexdsl.lang import nodes, units
from hexdsl.lang.scope import BAD, Entry, Module, Report, hint, look_up

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


@dataclass(frozen=True)
class Given:
    """A parameter's value from outside the spec: its expression, and the module that its names are looked up in."""

    node: nodes.Expr
    module: Module


@dataclass
class Evaluator:
    """Evaluates expressions.  `block` resolves a named block; `given` are parameters set from outside, by entry."""

    report: Report
    block: Callable[[Entry], Value]
    given: dict[int, Given] = field(default_factory=dict)
    memo: dict[int, Value] = field(default_factory=dict)
    active: list[Entry] = field(default_factory=list)

    def value(self, node: nodes.Expr, module: Module) -> Value:
        """What `node` comes to in `module`; BAD where that was reported as an error."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            help_ = "comparisons stand on a line of their own, or in fields such as `when`"
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

    @contextmanager
    def defining(self, entry: Entry) -> Iterator[bool]:
        """Marks a name as being worked out; False, and a message, where that is so already."""
        if entry in self.active:
            chain = [e.name for e in self.active[self.active.index(entry) :]]
            through = f", through {' and '.join(f'`{n}`' for n in chain[1:])}" if chain[1:] else ""
            help_ = f"give {'one of them' if through else 'it'} a value of its own"
            self.report.error("E024", f"`{entry.name}` is defined by itself{through}", entry.span, help_)
            yield False
            return
        self.active.append(entry)
        try:
            yield True
        finally:
            self.active.pop()

    def _declared(self, entry: Entry) -> Value:
        with self.defining(entry) as fresh:
            if not fresh:
                return BAD
            return self._param(entry) if isinstance(entry.node, nodes.Param) else self._let(entry)

    def _let(self, entry: Entry) -> Value:
        assert isinstance(entry.node, nodes.Let)
        return self.value(entry.node.value, entry.module)

    def _param(self, entry: Entry) -> Value:
        node = entry.node
        assert isinstance(node, nodes.Param)
        given = self.given.get(id(entry))
        if given is None and node.default is not None:
            given = Given(node.default, entry.module)
        if given is None:
            help_ = f"give it one with `-D {entry.name}=VALUE`, or write `param {entry.name} = VALUE`"
            return self.report.error("E030", f"parameter `{entry.name}` has no value", entry.span, help_)
        return self._typed(node, self.value(given.node, given.module), given.node.span)

    def _typed(self, node: nodes.Param, value: Value, span: Span) -> Value:
        if node.type is None or value is BAD:
            return value
        unit = _BY_SUFFIX.get(PARAM_TYPES.get(node.type.name, ""))
        if unit is None:
            message = f"`{node.type.name}` is not a type of parameter"
            return self.report.error("E032", message, node.type.span, suggestion(node.type.name, PARAM_TYPES))
        if isinstance(value, Quantity) and value.dim in unit.dims:
            return value
        got = "this" if isinstance(value, Quantity) and not value.text else said(value)
        what = describe(value) if isinstance(value, Quantity) else "not a number"
        message = f"{got} is {what}, but parameter `{node.name}` is {unit.words}"
        return self.report.error("E032", message, span, f"for example `{unit.example}`")

    def _name(self, node: nodes.Name, module: Module) -> Value:
        if node.name in ("true", "false"):
            return node.name == "true"
        if node.name in module.broken:
            return BAD
        entry = module.find(node.name)
        if entry is None and node.name in module.aliases:
            help_ = f"write `{node.name}.NAME` for something that it declares"
            return self.report.error("E023", f"`{node.name}` is an imported file, not a value", node.span, help_)
        return Word(node.name) if entry is None else self.entry(entry)

    def _member(self, node: nodes.Member, module: Module) -> Value:
        if not isinstance(node.base, nodes.Name):
            return self.report.error("E020", "a file's names have no parts", node.name_span, "write `FILE.NAME`")
        entry = look_up((node.base.name, node.name), (node.base.span, node.name_span), module, self.report)
        return BAD if entry is None else self.entry(entry)

    def _literal(self, node: nodes.Number | nodes.QuantityLit | nodes.Money, module: Module) -> Value:
        return self._guard("E110", node.span, units.quantity, node.text)

    _number = _quantitylit = _money = _literal

    def _string(self, node: nodes.String, module: Module) -> Value:
        return node.value

    def _listlit(self, node: nodes.ListLit, module: Module) -> Value:
        items = tuple(self.value(item, module) for item in node.items)
        return BAD if _any_bad(items) else items

    def _objectlit(self, node: nodes.ObjectLit, module: Module) -> Value:
        return self._pairs(node.pairs, module)

    def _pairs(self, pairs: tuple[nodes.Named, ...], module: Module) -> Value:
        found: dict[str, Value] = {}
        for pair in pairs:
            if pair.name in found:
                return self.report.error("E103", f"`{pair.name}` is set twice", pair.name_span, "keep one of them")
            found[pair.name] = self.value(pair.value, module)
        return BAD if _any_bad(tuple(found.values())) else found

    def _call(self, node: nodes.Call, module: Module) -> Value:
        if not isinstance(node.func, nodes.Name):
            return self.report.error(
                "E112", "only a plain word may stand before `(`", node.func.span, "such as `poisson(12req/s)`"
            )
        args = tuple(self.value(arg, module) for arg in node.args)
        named = self._pairs(node.named, module)
        return BAD if named is BAD or _any_bad(args) else Call(node.func.name, args, named)

    def _range(self, node: nodes.Range, module: Module) -> Value:
        low, high = self.value(node.low, module), self.value(node.high, module)
        return BAD if _any_bad((low, high)) else {"low": low, "high": high}

    def _neg(self, node: nodes.Neg, module: Module) -> Value:
        return self._arithmetic(node, module, units.neg, (node.value, self.value(node.value, module)))

    def _binop(self, node: nodes.BinOp, module: Module) -> Value:
        left, right = self.value(node.left, module), self.value(node.right, module)
        if node.op == "*" and isinstance(right, Gpu):
            return BAD if left is BAD else {"count": left, "gpu": right}
        if node.op == "*" and isinstance(left, Gpu):
            return BAD if right is BAD else {"count": right, "gpu": left}
        operation = {"+": units.add, "-": units.sub, "*": units.mul, "/": units.div}[node.op]
        return self._arithmetic(node, module, operation, (node.left, left), (node.right, right))

    def _item(self, node: nodes.Item, module: Module) -> Value:
        base, index = self.value(node.base, module), self.value(node.index, module)
        if _any_bad((base, index)):
            return BAD
        if not isinstance(base, tuple):
            return self.report.error(
                "E112", f"{said(base)} has no items", node.base.span, "only a list has: `[1, 2, 4][0]`"
            )
        position = index.value if isinstance(index, Quantity) and not index.dim else -1
        if position not in range(len(base)):
            help_ = f"items count from 0: the last of this list is {len(base) - 1}" if base else "the list is empty"
            return self.report.error("E112", "the list has no such item", node.index.span, help_)
        return base[int(position)]

    def _arithmetic(
        self, node: nodes.Expr, module: Module, operation: Callable[..., Quantity], *operands: tuple[nodes.Expr, Value]
    ) -> Value:
        if _any_bad(tuple(value for _, value in operands)):
            return BAD
        wrong = next((o for o in operands if not isinstance(o[1], Quantity)), None)
        if wrong is None:
            return self._guard("E112", node.span, operation, *(value for _, value in operands))
        at, value = wrong
        if isinstance(value, Word):
            return self.report.error("E020", f"nothing is named `{value}`", at.span, hint(value, module))
        return self.report.error("E112", f"{said(value)} is not a number", at.span)

    def _guard(self, code: str, span: Span, operation: Callable[..., Quantity], *operands: Any) -> Value:
        try:
            return operation(*operands)
        except units.UnitError as error:
            return self.report.error(code, error.message, span, error.help)


def _any_bad(values: tuple[Value, ...]) -> bool:
    return any(v is BAD for v in values)


def said(value: Value) -> str:
    """A value in the words of a message."""
    if isinstance(value, Word):
        return f"`{value}`"
    if isinstance(value, Call):
        return f"`{value.name}(...)`"
    if isinstance(value, Quantity):
        return f"`{value.text}`" if value.text else describe(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"`{value:.12g}`"
    if isinstance(value, Ir):
        return f"the {getattr(type(value), 'KIND', 'block')} `{getattr(value, 'name', '')}`"
    if isinstance(value, dict):
        return "a range" if set(value) == {"low", "high"} else "a group of values"
    return {str: "a string", bool: "true or false", tuple: "a list", list: "a list", type(None): "null"}.get(
        type(value), "this"
    )
