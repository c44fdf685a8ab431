"""The tree of a `.hex` file: frozen nodes, each with its span.  Equality ignores spans.

Every operator keeps its spelling, literals keep their text, so that meaning is given in one later place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hexdsl.ir.diagnostic import Span
from hexdsl.lang.source import Source


@dataclass(frozen=True, slots=True)
class Node:
    """Anything that stands at a place."""

    span: Span = field(compare=False, repr=False)


# Values.


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A bare word."""

    name: str


@dataclass(frozen=True, slots=True)
class Number(Node):
    """`8`, `16_384`, `0.5`, `1e9`: the text, read by `units.quantity`."""

    text: str


@dataclass(frozen=True, slots=True)
class QuantityLit(Node):
    """`80GB`, `12req/s`, `95%`: the text, read by `units.quantity`."""

    text: str


@dataclass(frozen=True, slots=True)
class Money(Node):
    """`$2.90/gpu/h`: the text, read by `units.quantity`."""

    text: str


@dataclass(frozen=True, slots=True)
class String(Node):
    """`"data/math.jsonl"`: the value, escapes resolved."""

    value: str


@dataclass(frozen=True, slots=True)
class Member(Node):
    """`base.name`."""

    base: Expr
    name: str
    name_span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Named(Node):
    """`name = value` inside a call or an object; the name of an object's pair may be a string."""

    name: str
    name_span: Span = field(compare=False, repr=False)
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`func(args..., name = value...)`."""

    func: Expr
    args: tuple[Expr, ...]
    named: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Item(Node):
    """`base[index]`."""

    base: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Neg(Node):
    """`-value`."""

    value: Expr


ArithmeticOp = Literal["+", "-", "*", "/"]


@dataclass(frozen=True, slots=True)
class BinOp(Node):
    """`left op right`."""

    op: ArithmeticOp
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Range(Node):
    """`low..high`, both ends included."""

    low: Expr
    high: Expr


CompareOp = Literal["<=", ">=", "==", "!=", "<", ">"]


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """`left op right`."""

    op: CompareOp
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class In(Node):
    """`left in right`."""

    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class And(Node):
    """`left and right`."""

    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Or(Node):
    """`left or right`."""

    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Not(Node):
    """`not value`."""

    value: Expr


@dataclass(frozen=True, slots=True)
class ListLit(Node):
    """`[1, 2, 4]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Import(Node):
    """`import "path" [as alias]`."""

    path: String
    alias: Name | None


@dataclass(frozen=True, slots=True)
class Param(Node):
    """`param name [: type] [= default]`."""

    name: str
    name_span: Span = field(compare=False, repr=False)
    type: Name | None
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Let(Node):
    """`let name = value`."""

    name: str
    name_span: Span = field(compare=False, repr=False)
    value: Expr


@dataclass(frozen=True, slots=True)
class Objective(Node):
    """`maximize value` or `minimize value`."""

    sense: Literal["maximize", "minimize"]
    value: Expr


@dataclass(frozen=True, slots=True)
class Attr(Node):
    """`name = value`."""

    name: str
    name_span: Span = field(compare=False, repr=False)
    value: Expr


@dataclass(frozen=True, slots=True)
class Rule(Node):
    """A bare value as a statement: a comparison that must hold."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Body(Node):
    """`{ statements }`; the span includes the braces."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Block(Node):
    """`kind label... [: base] { ... }`.  `base` is a dotted name, `base_span` its place."""

    kind: str
    kind_span: Span = field(compare=False, repr=False)
    labels: tuple[Name | String, ...]
    base: tuple[str, ...] | None
    base_span: Span | None = field(compare=False, repr=False)
    body: Body


@dataclass(frozen=True, slots=True)
class Flow(Node):
    """`a -> b -> c [{ ... }]`."""

    steps: tuple[Expr, ...]
    body: Body | None


@dataclass(frozen=True, slots=True)
class Link(Node):
    """`a <-> b [{ ... }]`."""

    left: Expr
    right: Expr
    body: Body | None


Statement = Import | Param | Let | Objective | Attr | Rule | Block | Flow | Link


@dataclass(frozen=True, slots=True)
class Tree:
    """One parsed file."""

    source: Source = field(compare=False, repr=False)
    statements: tuple[Statement, ...]
