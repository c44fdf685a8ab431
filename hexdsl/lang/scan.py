"""A rough view of a text that need not parse: its words and marks, and which bracket is open where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

PIECE = re.compile(
    r"""
    "(?:\\.|[^"\\\n])*"                                                                 # a string
  | \#.*                                                                                # a comment
  | \$\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?[A-Za-z]*(?:/[A-Za-z]\w*)*                     # an amount of money
  | \d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?(?:(?:%|[A-Za-z]\w*)(?:/[A-Za-z]\w*)*)?          # a number with its unit
  | [A-Za-z_]\w*                                                                        # a word
  | <-> | -> | <= | >= | == | != | \.\.
  | \S
    """,
    re.VERBOSE,
)
CLOSER = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(CLOSER.values())
OPERATORS = frozenset({"<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "..", "and", "or", "not", "in"})
CONTINUES = OPERATORS | {",", "->", "<->"}
"""After one of these a newline does not end the statement (as in `hexdsl.grammar.load`)."""

LONGEST = 40


@dataclass(frozen=True, slots=True)
class Piece:
    """A word, number, string or mark; line and column count from 1."""

    text: str
    line: int
    column: int

    @property
    def end(self) -> int:
        return self.column + len(self.text)

    @property
    def is_word(self) -> bool:
        return self.text[0].isalpha() or self.text[0] == "_"

    @property
    def is_number(self) -> bool:
        return self.text[0].isdigit() or (self.text[0] == "$" and len(self.text) > 1)

    @property
    def is_string(self) -> bool:
        return self.text[0] == '"' and len(self.text) > 1

    @property
    def is_comment(self) -> bool:
        return self.text[0] == "#"

    @property
    def ends_value(self) -> bool:
        word = self.is_word and self.text not in OPERATORS
        return word or self.is_number or self.is_string or self.text in CLOSERS


@dataclass(frozen=True, slots=True)
class Opener:
    """An open bracket, and whether it is a brace that holds statements."""

    piece: Piece
    body: bool


def pieces(lines: Sequence[str], first: int = 1, last: int | None = None) -> Iterator[Piece]:
    """The pieces of lines `first` to `last`, comments left out."""
    for number, line in enumerate(lines[first - 1 : last], first):
        yield from (piece for piece in pieces_of(line, number) if not piece.is_comment)


def pieces_of(line: str, number: int) -> Iterator[Piece]:
    """The pieces of one line; a comment is the last one."""
    return (Piece(m[0], number, m.start() + 1) for m in PIECE.finditer(line))


def shortened(text: str) -> str:
    """A piece of the user's text, short enough for a message."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def until(stream: Iterable[Piece], line: int, column: int) -> Iterator[Piece]:
    """The pieces that begin before a place."""
    return takewhile(lambda piece: (piece.line, piece.column) < (line, column), stream)


def open_at_end(stream: Iterable[Piece]) -> tuple[Opener, ...]:
    """The brackets that are open after the last piece, outermost first.  A closer that fits nothing is passed over."""
    stack: list[Opener] = []
    last: Piece | None = None
    for piece in stream:
        if piece.text in CLOSER:
            stack.append(Opener(piece, piece.text == "{" and last is not None and last.ends_value))
        elif stack and piece.text == CLOSER[stack[-1].piece.text]:
            stack.pop()
        last = piece
    return tuple(stack)


def closing(stream: Iterable[Piece]) -> Piece | None:
    """The piece that closes the first one; None where another kind of bracket closes before it, or nothing does."""
    stack: list[str] = []
    for piece in stream:
        if piece.text in CLOSER:
            stack.append(CLOSER[piece.text])
        elif piece.text in CLOSERS:
            if stack.pop() != piece.text:
                return None
            if not stack:
                return piece
    return None
