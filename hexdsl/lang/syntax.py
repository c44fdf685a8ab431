"""Text to tree: `parse`.  The grammar is `hexdsl.grammar`, what went wrong is told by `hexdsl.lang.recover`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any, cast

import lark

from hexdsl.grammar.load import TooDeep, parser
from hexdsl.ir.diagnostic import Span, SpecError
from hexdsl.lang import nodes as n
from hexdsl.lang.source import Source
from hexdsl.lang.strings import unknown_escapes, unquote

FAILURES = (lark.UnexpectedInput, TooDeep)
"""What parsing raises."""

SYNTAX_CODES = MappingProxyType(
    {
        "S001": "a word or mark that does not fit",
        "S002": "a string without its closing quote",
        "S003": "a string in single quotes",
        "S004": "a semicolon",
        "S005": "a missing closing brace",
        "S006": "a value set with a colon",
        "S007": "a brace on a line of its own",
        "S008": "a missing value",
        "S009": "a block by indentation",
        "S010": "a space between a number and its unit",
        "S011": "a comment of another language",
        "S012": "a bracket that closes nothing",
        "S013": "a missing comma",
        "S014": "a bracket that is never closed",
        "S015": "a character that means nothing",
        "S016": "a statement that is not whole",
        "S017": "a missing equals sign",
        "S018": "an equals sign where nothing can be set",
        "S019": "two statements on one line",
        "S020": "an operator of another language",
        "S021": "a bracket closed by another kind",
        "S022": "a chain of comparisons",
        "S023": "an import without a string",
        "S024": "an unknown escape in a string",
        "S025": "a malformed number",
        "S026": "a list in parentheses",
        "S080": "brackets nested too deep",
        "S081": "a value with too many operators",
        "S090": "a file too large for a spec",
        "S091": "a file that is not text",
    }
)
"""Every code of a syntax message, with its title."""


def parse(source: Source) -> n.Tree:
    """The tree of a spec.  Raises SpecError with up to 20 syntax errors, in the order of the text."""
    try:
        raw = parser().parse(source.text + "\n")
    except FAILURES as failure:
        from hexdsl.lang.recover import diagnose_all  # a sound spec starts without it

        raise SpecError(diagnose_all(source, failure)) from None
    if "\\" in source.text and (strings := [token for token in _strings(raw) if unknown_escapes(token)]):
        from hexdsl.lang.recover import bad_escapes

        raise SpecError(bad_escapes(source, strings))
    return n.Tree(source, _Builder(source.name).statements(raw.children))


def _strings(raw: lark.Tree[lark.Token]) -> Iterator[lark.Token]:
    return (token for token in raw.scan_values(lambda v: isinstance(v, lark.Token) and v.type == "STRING"))


class _Builder:
    """Turns lark's trees into nodes; one method a grammar rule, named like it."""

    def __init__(self, file: str) -> None:
        self.file = file

    def statements(self, children: Iterable[Any]) -> tuple[n.Statement, ...]:
        return tuple(cast("n.Statement", self.node(child)) for child in children)

    def node(self, tree: Any) -> Any:
        return getattr(self, f"_{tree.data}")(self._span(tree.meta), tree.children)

    def _values(self, children: Iterable[Any]) -> Iterator[Any]:
        return (self.node(child) for child in children)

    def _optional(self, tree: Any) -> Any:
        return None if tree is None else self.node(tree)

    def _span(self, meta: Any) -> Span:
        return Span(self.file, meta.line, meta.column, meta.start_pos, meta.end_pos)

    def _word(self, token: Any) -> n.Name:
        return n.Name(self._span(token), str(token))

    def _quoted(self, token: Any) -> n.String:
        return n.String(self._span(token), unquote(str(token)))

    # Statements.

    def _import(self, span: Span, parts: list[Any]) -> n.Import:
        path, alias = parts
        return n.Import(span, self._quoted(path), alias and self._word(alias))

    def _param(self, span: Span, parts: list[Any]) -> n.Param:
        name, kind, default = parts
        return n.Param(span, str(name), self._span(name), kind and self._word(kind), self._optional(default))

    def _default(self, _: Span, parts: list[Any]) -> n.Expr:
        return cast("n.Expr", self.node(parts[0]))

    def _let(self, span: Span, parts: list[Any]) -> n.Let:
        name, value = parts
        return n.Let(span, str(name), self._span(name), self.node(value))

    def _objective(self, span: Span, parts: list[Any]) -> n.Objective:
        sense, value = parts
        return n.Objective(span, "maximize" if sense.type == "MAXIMIZE" else "minimize", self.node(value))

    def _attr(self, span: Span, parts: list[Any]) -> n.Attr:
        name, value = parts
        return n.Attr(span, str(name), self._span(name), self.node(value))

    def _rule(self, span: Span, parts: list[Any]) -> n.Rule:
        return n.Rule(span, self.node(parts[0]))

    def _block(self, span: Span, parts: list[Any]) -> n.Block:
        kind, *labels, base, body = parts
        return n.Block(
            span,
            str(kind),
            self._span(kind),
            tuple(self._values(labels)),
            base and tuple(str(word) for word in base.children),
            base and self._span(base.meta),
            self.node(body),
        )

    def _label(self, span: Span, parts: list[Any]) -> n.Name | n.String:
        return self._quoted(parts[0]) if parts[0].type == "STRING" else self._word(parts[0])

    def _body(self, span: Span, parts: list[Any]) -> n.Body:
        return n.Body(span, self.statements(parts))

    def _flow(self, span: Span, parts: list[Any]) -> n.Flow:
        *steps, body = parts
        return n.Flow(span, tuple(self._values(steps)), self._optional(body))

    def _link(self, span: Span, parts: list[Any]) -> n.Link:
        left, right, body = parts
        return n.Link(span, self.node(left), self.node(right), self._optional(body))

    # Values.

    def _or(self, span: Span, parts: list[Any]) -> n.Or:
        return n.Or(span, *self._values(parts))

    def _and(self, span: Span, parts: list[Any]) -> n.And:
        return n.And(span, *self._values(parts))

    def _negation(self, span: Span, parts: list[Any]) -> n.Not:
        return n.Not(span, self.node(parts[0]))

    def _cmp(self, span: Span, parts: list[Any]) -> n.Compare:
        left, op, right = parts
        return n.Compare(span, cast("n.CompareOp", str(op)), self.node(left), self.node(right))

    def _member(self, span: Span, parts: list[Any]) -> n.In:
        return n.In(span, *self._values(parts))

    def _range(self, span: Span, parts: list[Any]) -> n.Range:
        return n.Range(span, *self._values(parts))

    def _sum(self, span: Span, parts: list[Any]) -> n.BinOp:
        left, op, right = parts
        return n.BinOp(span, cast("n.ArithmeticOp", str(op)), self.node(left), self.node(right))

    _prod = _sum

    def _sign(self, span: Span, parts: list[Any]) -> n.Expr:
        sign, value = parts
        inner = cast("n.Expr", self.node(value))
        return n.Neg(span, inner) if sign == "-" else inner

    def _field(self, span: Span, parts: list[Any]) -> n.Member:
        base, name = parts
        return n.Member(span, self.node(base), str(name), self._span(name))

    def _call(self, span: Span, parts: list[Any]) -> n.Call:
        func, *args = self._values(parts)
        plain = tuple(arg for arg in args if not isinstance(arg, n.Named))
        return n.Call(span, func, plain, tuple(arg for arg in args if isinstance(arg, n.Named)))

    def _item(self, span: Span, parts: list[Any]) -> n.Item:
        return n.Item(span, *self._values(parts))

    def _named(self, span: Span, parts: list[Any]) -> n.Named:
        name, value = parts
        word = unquote(str(name)) if name.type == "STRING" else str(name)
        return n.Named(span, word, self._span(name), self.node(value))

    _pair = _named

    def _name(self, span: Span, parts: list[Any]) -> n.Name:
        return n.Name(span, str(parts[0]))

    def _number(self, span: Span, parts: list[Any]) -> n.Number:
        return n.Number(span, str(parts[0]))

    def _quantity(self, span: Span, parts: list[Any]) -> n.QuantityLit:
        return n.QuantityLit(span, str(parts[0]))

    def _money(self, span: Span, parts: list[Any]) -> n.Money:
        return n.Money(span, str(parts[0]))

    def _string(self, span: Span, parts: list[Any]) -> n.String:
        return self._quoted(parts[0])

    def _list(self, span: Span, parts: list[Any]) -> n.ListLit:
        return n.ListLit(span, tuple(self._values(parts)))

    def _object(self, span: Span, parts: list[Any]) -> n.ObjectLit:
        return n.ObjectLit(span, tuple(self._values(parts)))
