"""Whatever the text: a tree, or a SpecError whose diagnostics can be shown; and the formatter keeps the tree."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hexdsl.ir.diagnostic import SpecError
from hexdsl.lang.diagnostics import render, to_json
from hexdsl.lang.format import format_text
from hexdsl.lang.source import Source, text_of
from hexdsl.lang.syntax import SYNTAX_CODES, parse

GOOD = [
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent.parent / "syntax" / "good").glob("*.hex"))
]
TOKENS = [
    "a",
    "serve",
    "in",
    "not",
    "and",
    "or",
    "as",
    "let",
    "param",
    "import",
    "maximize",
    "minimize",
    "12",
    "0.5",
    ".5",
    "12req/s",
    "80GB",
    "$2.90/gpu/h",
    "95%",
    '"text"',
    '"open',
    "#",
    ";",
    "'",
    "`",
    "@",
    "&",
    "|",
    "!",
    "%",
    "$",
    "é",
    "µ",
    "“",
    "\x1b",
    "\u202e",
    "\\",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "{",
    "}",
    ",",
    ",",
    ":",
    ".",
    "..",
    "=",
    "=",
    "->",
    "<->",
    "<=",
    ">=",
    "==",
    "!=",
    "<",
    ">",
    "+",
    "-",
    "*",
    "/",
    "\n",
    "\n",
    "\n",
    "\t",
]

soup = st.lists(st.sampled_from([*TOKENS, " ", " "]), max_size=40).map(" ".join)
glued = st.lists(st.sampled_from(TOKENS), max_size=30).map("".join)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 12)))
        text = text[:at] + draw(st.sampled_from(["", *TOKENS])) + text[end:]
    return text


def check(text: str) -> None:
    source = Source("a.hex", text)
    try:
        parse(source)
    except SpecError as error:
        check_messages(source, error)
    else:
        format_text(source)


def check_messages(source: Source, error: SpecError) -> None:
    assert 1 <= len(error.diagnostics) <= 20
    for told in error.diagnostics:
        assert told.code in SYNTAX_CODES
        for label in told.labels:
            assert 1 <= label.span.line <= len(source.lines)
            assert label.span.start == source.starts[label.span.line - 1] + label.span.column - 1
            assert "\n" not in text_of(source, label.span)[:-1]
    shown = render(error.diagnostics, {source.name: source})
    assert all(char.isprintable() or char == "\n" for char in shown)
    json.dumps(to_json(error.diagnostics, {source.name: source}))


@settings(max_examples=400)
@given(st.one_of(soup, glued))
def test_token_soup(text: str) -> None:
    check(text)


@settings(max_examples=150)
@given(mutated())
def test_mutated_specs(text: str) -> None:
    check(text)


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    check(text)
