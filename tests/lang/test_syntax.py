"""Text to nodes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hexdsl.grammar.load import MAX_DEPTH, MAX_OPERATORS
from hexdsl.ir.diagnostic import SpecError
from hexdsl.lang import nodes as n
from hexdsl.lang.source import Source, text_of
from hexdsl.lang.syntax import parse

GOOD = sorted((Path(__file__).parent.parent / "syntax" / "good").glob("*.hex"))


def one(text: str) -> n.Statement:
    (statement,) = parse(Source("a.hex", text)).statements
    return statement


def value(text: str) -> n.Expr:
    attr = one(f"x = {text}")
    assert isinstance(attr, n.Attr)
    return attr.value


def walk(node: object) -> Iterator[n.Node]:
    if isinstance(node, n.Node):
        yield node
    if isinstance(node, tuple):
        for part in node:
            yield from walk(part)
    elif isinstance(node, n.Node):
        for name in node.FIELDS:
            yield from walk(getattr(node, name))


def shape(node: object) -> object:
    """A node as nested tuples: class name and parts, without spans."""
    if isinstance(node, tuple):
        return tuple(shape(part) for part in node)
    if not isinstance(node, n.Node):
        return node
    return (type(node).__name__, *(shape(getattr(node, name)) for name in node.FIELDS if "span" not in name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("Name", "a")),
        ("16_384", ("Number", "16_384")),
        ("900GB/s", ("QuantityLit", "900GB/s")),
        ("$2.90/gpu/h", ("Money", "$2.90/gpu/h")),
        (r'"a\"b\\c\n\u00e9"', ("String", 'a"b\\c\né')),
        ("a.b.c", ("Member", ("Member", ("Name", "a"), "b"), "c")),
        ("f(1, g = 2)", ("Call", ("Name", "f"), (("Number", "1"),), (("Named", "g", ("Number", "2")),))),
        ("a[0]", ("Item", ("Name", "a"), ("Number", "0"))),
        ("-a + b", ("BinOp", "+", ("Neg", ("Name", "a")), ("Name", "b"))),
        ("+a", ("Name", "a")),
        ("a - b - c", ("BinOp", "-", ("BinOp", "-", ("Name", "a"), ("Name", "b")), ("Name", "c"))),
        ("a + b * c", ("BinOp", "+", ("Name", "a"), ("BinOp", "*", ("Name", "b"), ("Name", "c")))),
        ("(a + b) / c", ("BinOp", "/", ("BinOp", "+", ("Name", "a"), ("Name", "b")), ("Name", "c"))),
        ("1..a + 2", ("Range", ("Number", "1"), ("BinOp", "+", ("Name", "a"), ("Number", "2")))),
        ("a in 1..2", ("In", ("Name", "a"), ("Range", ("Number", "1"), ("Number", "2")))),
        ("a < b and not c", ("And", ("Compare", "<", ("Name", "a"), ("Name", "b")), ("Not", ("Name", "c")))),
        ("a or b and c", ("Or", ("Name", "a"), ("And", ("Name", "b"), ("Name", "c")))),
        ("[]", ("ListLit", ())),
        ("[a, b,]", ("ListLit", (("Name", "a"), ("Name", "b")))),
        ('{ a = 1, "b c" = 2 }', ("ObjectLit", (("Named", "a", ("Number", "1")), ("Named", "b c", ("Number", "2"))))),
    ],
)
def test_values(text: str, expected: object) -> None:
    assert shape(value(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('import "a.hex"', ("Import", ("String", "a.hex"), None)),
        ('import "a.hex" as b', ("Import", ("String", "a.hex"), ("Name", "b"))),
        ("param a", ("Param", "a", None, None)),
        ("param a: Rate = 1", ("Param", "a", ("Name", "Rate"), ("Number", "1"))),
        ("let a = 1", ("Let", "a", ("Number", "1"))),
        ("maximize a", ("Objective", "maximize", ("Name", "a"))),
        ("minimize a", ("Objective", "minimize", ("Name", "a"))),
        ("a <= 1", ("Rule", ("Compare", "<=", ("Name", "a"), ("Number", "1")))),
        ("a {}", ("Block", "a", (), None, ("Body", ()))),
        (
            'a b "c": d.e { f = 1 }',
            (
                "Block",
                "a",
                (("Name", "b"), ("String", "c")),
                ("d", "e"),
                ("Body", (("Attr", "f", ("Number", "1")),)),
            ),
        ),
        ("a -> b", ("Flow", (("Name", "a"), ("Name", "b")), None)),
        ("a -> b -> c {}", ("Flow", (("Name", "a"), ("Name", "b"), ("Name", "c")), ("Body", ()))),
        ("a <-> b {}", ("Link", ("Name", "a"), ("Name", "b"), ("Body", ()))),
        ("a <-> b", ("Link", ("Name", "a"), ("Name", "b"), None)),
    ],
)
def test_statements(text: str, expected: object) -> None:
    assert shape(one(text)) == expected


def test_spans_hold_the_users_text() -> None:
    source = Source(
        "a.hex", '# first\nserve chat : lab.base {\n  p95(ttft) <= (400ms + x) * 2  # rule\n  a = f("é").g\n}\n'
    )
    (block,) = parse(source).statements
    assert isinstance(block, n.Block)
    assert text_of(source, block.kind_span) == "serve"
    assert block.base_span is not None
    assert text_of(source, block.base_span) == "lab.base"
    rule, attr = block.body.statements
    assert text_of(source, rule.span) == "p95(ttft) <= (400ms + x) * 2"
    assert (rule.span.line, rule.span.column) == (3, 3)
    assert text_of(source, attr.span) == 'a = f("é").g'
    assert isinstance(attr, n.Attr)
    assert text_of(source, attr.name_span) == "a"
    assert text_of(source, attr.value.span) == 'f("é").g'
    assert text_of(source, block.span) == source.text[8:-1]


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_examples_parse_and_every_node_has_its_text(path: Path) -> None:
    source = Source(path.name, path.read_text(encoding="utf-8"))
    for node in walk(parse(source).statements):
        text = text_of(source, node.span)
        assert text == text.strip()
        assert source.lines[node.span.line - 1][node.span.column - 1 :].startswith(text.split("\n")[0])
        if isinstance(node, (n.Number, n.QuantityLit, n.Money)):
            assert node.text == text


def test_equality_ignores_places() -> None:
    assert parse(Source("a.hex", "a = 1")) == parse(Source("b.hex", "\n\n  a   =  1 # c"))
    assert parse(Source("a.hex", "a = 1")) != parse(Source("a.hex", "a = 1.0"))


def told(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(Source("a.hex", text))
    return [d.code for d in caught.value.diagnostics]


@pytest.mark.parametrize("pair", ["()", "[]"])
def test_depth_limit(pair: str) -> None:
    def nested(depth: int) -> str:
        return f"a = {pair[0] * depth}1{pair[1] * depth}"

    assert parse(Source("a.hex", nested(MAX_DEPTH)))
    assert told(nested(MAX_DEPTH + 1)) == ["S080"]


@pytest.mark.parametrize(
    "chain", ["1 + {}", "-{}", "not {}", "a.{}", "f()({}", "x[{}", "1 and {}", "({} + 1)", "{{ a = {} }}", "1 +\n{}"]
)
def test_no_text_is_too_deep_for_the_stack(chain: str) -> None:
    before, after = chain.replace("{{", "{").replace("}}", "}").split("{}")
    assert told(f"a = {before * 10_000}x{after * 10_000}")[0] in {"S080", "S081"}


def test_deepest_tree_is_handled_in_little_stack() -> None:
    """Alternating brackets and operators cannot add up: the limit counts through the brackets."""
    half = MAX_OPERATORS // 2
    text = "a { " * (MAX_DEPTH - 1) + f"a = ({'1 + ' * half}1){' + 1' * (half - 1)}" + " }" * (MAX_DEPTH - 1)
    tree = parse(Source("a.hex", text))
    limit = sys.getrecursionlimit()
    assert hash(repr(tree)) == hash(repr(parse(Source("a.hex", text))))
    assert sys.getrecursionlimit() == limit
    assert told(text.replace("1 + 1", "1 + 1 + 1 + 1", 1)) == ["S081"]


def test_long_lists_and_flows_are_no_depth() -> None:
    assert len(value(f"[{'1 + 1, ' * 1000}]").items) == 1000  # type: ignore[union-attr]
    assert len(one("a" + " -> a" * 1000).steps) == 1001  # type: ignore[union-attr]
