"""The formatter: golden layouts of the examples, and what it must never change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hexdsl.lang import format as formatter
from hexdsl.lang.source import Source
from hexdsl.lang.syntax import parse

Golden = Callable[[Path, str], None]
GOOD = sorted((Path(__file__).parent.parent / "syntax" / "good").glob("*.hex"))


def formatted(text: str) -> str:
    return formatter.format_text(Source("a.hex", text))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_examples(path: Path, golden: Golden) -> None:
    golden(path.with_suffix(".fmt"), formatted(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("\n\n", ""),
        ("#  a comment ", "#  a comment\n"),
        ("a=1", "a = 1\n"),
        ("a=1 # why", "a = 1  # why\n"),
        ("a = 1\nlong = 2\n\nb = 3", "a    = 1\nlong = 2\n\nb = 3\n"),
        ("a = 1\n\n\n\nb = 2\n\n", "a = 1\n\nb = 2\n"),
        ("a {\n\nb = 1\n\n}", "a {\n  b = 1\n}\n"),
        ("a {b = 1,c=2}", "a { b = 1, c = 2 }\n"),
        ("a  b:c.d{ }", "a b : c.d {}\n"),
        ("param a:Rate=12req/s", "param a: Rate = 12req/s\n"),
        ("a->b->  c{x=1}", "a -> b -> c { x = 1 }\n"),
        ("a<->b . c", "a <-> b.c\n"),
        ("a -> b ->\nc", "a -> b ->\n  c\n"),
        ("x = - 1+ -2 * ( - 3 )", "x = -1 + -2 * (-3)\n"),
        ("maximize( a )\nminimize - a", "maximize (a)\nminimize -a\n"),
        ("not( a )and b in[1]", "not (a) and b in [1]\n"),
        ("x = f ( a=1 ) [ 0 ] . b", "x = f(a = 1)[0].b\n"),
        ("x = 1 .. 2", "x = 1..2\n"),
        ("x = 8*400Gb/s", "x = 8 * 400Gb/s\n"),
        ("x = f(\n1,\n[2,\n3]\n)", "x = f(\n  1,\n  [2,\n    3]\n)\n"),
        ("x = f({\na = 1\n})", "x = f({\n  a = 1\n})\n"),
        ("a { b {\nc = 1\n} }", "a { b {\n  c = 1\n} }\n"),
        ("x{a=1,}", "x { a = 1, }\n"),
        ('\ta = "  #  no comment"', 'a = "  #  no comment"\n'),
    ],
)
def test_layout(text: str, expected: str) -> None:
    assert formatted(text) == expected


def test_a_change_of_meaning_is_never_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formatter, "_layout", lambda source: "a = 2\n")
    with pytest.raises(formatter.FormatError):
        formatted("a = 1")


def test_a_lost_comment_is_never_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formatter, "_layout", lambda source: "a = 1\n")
    with pytest.raises(formatter.FormatError):
        formatted("a = 1  # why")


def test_same_tree_on_badly_laid_out_examples() -> None:
    for path in GOOD:
        squeezed = path.read_text(encoding="utf-8").replace("  ", " ").replace(" = ", "=").replace(", ", " ,  ")
        assert parse(Source("a.hex", formatted(squeezed))) == parse(Source("a.hex", squeezed))
