"""Marks that begin nothing, or come from another language: what each was meant to be."""

from __future__ import annotations

import re
from types import MappingProxyType

from hexdsl.lang.lookalikes import SPACES, advice
from hexdsl.lang.scan import Piece, shortened
from hexdsl.lang.spot import Finding, Spot

FOREIGN = MappingProxyType({"&": "write `and`", "|": "write `or`", "!": "write `not`, or `!=` to compare"})


def open_string(spot: Spot) -> Finding | None:
    """A string without its closing quote."""
    if spot.kind or spot.here.text != '"':
        return None
    return spot.finding("S002", "this string has no closing quote", 'close it with `"` on the same line')


def single_quotes(spot: Spot) -> Finding | None:
    """`'text'`."""
    if spot.kind or spot.here.text != "'":
        return None
    text = re.match(r"'([^']*)'", spot.lines[spot.line - 1][spot.column - 1 :])
    return spot.finding("S003", "strings take double quotes", f'write `"{shortened(text[1]) if text else "..."}"`')


def semicolon(spot: Spot) -> Finding | None:
    """`;`."""
    if spot.kind or spot.here.text != ";":
        return None
    return spot.finding("S004", "`;` ends nothing here", "statements end with the line; inside braces also with `,`")


def foreign_operator(spot: Spot) -> Finding | None:
    """`&&`, `||`, `!`, `=<`, `=>`, `**`, `+=` and their like."""
    if not spot.kind and spot.here.text in FOREIGN:
        width = 2 if spot.lines[spot.line - 1][spot.column - 1 :].startswith(spot.here.text * 2) else 1
        mark = Piece(spot.here.text * width, spot.line, spot.column)
        return spot.finding("S020", f"there is no operator `{mark.text}`", FOREIGN[spot.here.text], mark)
    both = _two_marks(spot)
    if both is None:
        return None
    return spot.finding("S020", f"there is no operator `{both.text}`", TWO_MARKS[both.text], both)


def _two_marks(spot: Spot) -> Piece | None:
    """The mark at a spot with the one before it, or the one behind it, where together they are a foreign operator."""
    last, here = spot.last, spot.here
    if last is not None and spot.touches(last) and last.text + here.text in TWO_MARKS:
        return Piece(last.text + here.text, spot.line, last.column)
    both = spot.lines[spot.line - 1][spot.column - 1 : spot.column + 1]
    return Piece(both, spot.line, spot.column) if both in TWO_MARKS and len(here.text) == 1 else None


TWO_MARKS = MappingProxyType(
    {
        "=<": "write `<=`",
        "=>": "write `>=` to compare, `->` for a flow",
        "===": "write `==`",
        "<>": "write `!=`",
        "**": "write the product out",
        **{f"{sign}=": "a name is set once; write `name = value`" for sign in "+-*/"},
    }
)


def odd_character(spot: Spot) -> Finding | None:
    """A character that no spec may have, such as a typographic dash."""
    if spot.kind:
        return None
    char = spot.here.text
    if char in SPACES:
        return spot.finding("S015", "this is not an ordinary space", "delete it, or write an ordinary one")
    return spot.finding("S015", f"`{char}` means nothing here", advice(char))
