"""The tree of a `.hex` file: frozen nodes, each with its span.  Equality ignores spans.

Every operator keeps its spelling, literals keep their text, so that meaning is given in one later place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NoReturn, dataclass_transform

from hexdsl.ir.diagnostic import Span
from hexdsl.lang.source import Source


@dataclass_transform(frozen_default=True)
class _Record:
    """Its subclasses are like frozen dataclasses, without the code that Python would make and compile for each of them:
    for thirty classes that took a twentieth of the time of `hexc check`.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.FIELDS = (*cls.FIELDS, *cls.__annotations__)

    def __init__(self, *values: Any) -> None:
        self.__dict__.update(zip(self.FIELDS, values, strict=True))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"`{name}` cannot be set: the tree is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._meaning() == other._meaning()

    def __hash__(self) -> int:
        return hash(self._meaning())

    def __repr__(self) -> str:
        text = ""
        for part in self._meaning():  # not with `join`: a call more a level, and a tree may be 200 levels deep
            text += f", {part!r}"
        return f"{type(self).__name__}({text[2:]})"

    def _meaning(self) -> tuple[Any, ...]:
        return tuple(self.__dict__[name] for name in self.FIELDS if not name.endswith("span"))


class Node(_Record):
    """Anything that stands at a place."""

    span: Span


# Values.


class Name(Node):
    """A bare word."""

    name: str


class Number(Node):
    """`8`, `16_384`, `0.5`, `1e9`: the text, read by `units.quantity`."""

    text: str


class QuantityLit(Node):
    """`80GB`, `12req/s`, `95%`: the text, read by `units.quantity`."""

    text: str


class Money(Node):
    """`$2.90/gpu/h`: the text, read by `units.quantity`."""

    text: str


class String(Node):
    """`"data/math.jsonl"`: the value, escapes resolved."""

    value: str


class Member(Node):
    """`base.name`."""

    base: Expr
    name: str
    name_span: Span


class Named(Node):
    """`name = value` inside a call or an object; the name of an object's pair may be a string."""

    name: str
    name_span: Span
    value: Expr


class Call(Node):
    """`func(args..., name = value...)`."""

    func: Expr
    args: tuple[Expr, ...]
    named: tuple[Named, ...]


class Item(Node):
    """`base[index]`."""

    base: Expr
    index: Expr


class Neg(Node):
    """`-value`."""

    value: Expr


ArithmeticOp = Literal["+", "-", "*", "/"]


class BinOp(Node):
    """`left op right`."""

    op: ArithmeticOp
    left: Expr
    right: Expr


class Range(Node):
    """`low..high`, both ends included."""

    low: Expr
    high: Expr


CompareOp = Literal["<=", ">=", "==", "!=", "<", ">"]


class Compare(Node):
    """`left op right`."""

    op: CompareOp
    left: Expr
    right: Expr


class In(Node):
    """`left in right`."""

    left: Expr
    right: Expr


class And(Node):
    """`left and right`."""

    left: Expr
    right: Expr


class Or(Node):
    """`left or right`."""

    left: Expr
    right: Expr


class Not(Node):
    """`not value`."""

    value: Expr


class ListLit(Node):
    """`[1, 2, 4]`."""

    items: tuple[Expr, ...]


class ObjectLit(Node):
    """`{ chat = 60%, code = 40% }`."""

    pairs: tuple[Named, ...]


Expr = (
    Name
    | Number
    | QuantityLit
    | Money
    | String
    | Member
    | Call
    | Item
    | Neg
    | BinOp
    | Range
    | Compare
    | In
    | And
    | Or
    | Not
    | ListLit
    | ObjectLit
)


# Statements.


class Import(Node):
    """`import "path" [as alias]`."""

    path: String
    alias: Name | None


class Param(Node):
    """`param name [: type] [= default]`."""

    name: str
    name_span: Span
    type: Name | None
    default: Expr | None


class Let(Node):
    """`let name = value`."""

    name: str
    name_span: Span
    value: Expr


class Objective(Node):
    """`maximize value` or `minimize value`."""

    sense: Literal["maximize", "minimize"]
    value: Expr


class Attr(Node):
    """`name = value`."""

    name: str
    name_span: Span
    value: Expr


class Rule(Node):
    """A bare value as a statement: a comparison that must hold."""

    value: Expr


class Body(Node):
    """`{ statements }`; the span includes the braces."""

    statements: tuple[Statement, ...]


class Block(Node):
    """`kind label... [: base] { ... }`.  `base` is a dotted name, `base_span` its place."""

    kind: str
    kind_span: Span
    labels: tuple[Name | String, ...]
    base: tuple[str, ...] | None
    base_span: Span | None
    body: Body


class Flow(Node):
    """`a -> b -> c [{ ... }]`."""

    steps: tuple[Expr, ...]
    body: Body | None


class Link(Node):
    """`a <-> b [{ ... }]`."""

    left: Expr
    right: Expr
    body: Body | None


Statement = Import | Param | Let | Objective | Attr | Rule | Block | Flow | Link


@dataclass(frozen=True)
class Tree:
    """One parsed file."""

    source: Source = field(compare=False, repr=False)
    statements: tuple[Statement, ...]
