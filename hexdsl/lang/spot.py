"""The place where parsing failed, with the questions that the recognisers of mistakes ask about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import dropwhile

from hexdsl.ir.diagnostic import Diagnostic, Label, Span
from hexdsl.lang.scan import CONTINUES, Opener, Piece, closing, open_at_end, pieces, shortened, until
from hexdsl.lang.source import Source


@dataclass(frozen=True)
class Finding:
    """One mistake and the lines that it spoils, which lack so many opening braces.

    After a final one the rest of the text tells nothing.
    """

    diagnostic: Diagnostic
    first: int
    last: int
    final: bool = False
    lacking: int = 0

    @property
    def lines(self) -> range:
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class Spot:
    """Where and at which token the parser stopped.

    `lines` is the text as it was parsed (earlier mistakes mended), `source` the user's.  `kind` is the token's
    type, empty for a character that begins no token; `accepts` holds the types that would have been right.
    """

    source: Source
    lines: tuple[str, ...]
    line: int
    column: int
    kind: str
    text: str
    accepts: frozenset[str]

    @cached_property
    def before(self) -> tuple[Piece, ...]:
        """The pieces before the spot on its line."""
        return tuple(p for p in pieces(self.lines, self.line, self.line) if p.column < self.column)

    @cached_property
    def here(self) -> Piece:
        """The piece or the odd character at the spot; a newline at the end of a line."""
        if not self.kind:
            return Piece(self.lines[self.line - 1][self.column - 1], self.line, self.column)
        rest = (p for p in pieces(self.lines, self.line, self.line) if p.column >= self.column)
        return next(rest, Piece("\n", self.line, self.column))

    @cached_property
    def statement(self) -> tuple[Piece, ...]:
        """The pieces of the spot's line since the last brace or comma: as a rule, the statement so far."""
        start = max((i for i, p in enumerate(self.before, 1) if p.text in "{},"), default=0)
        return self.before[start:]

    @property
    def short(self) -> str:
        """The token's text for a message."""
        return shortened(self.text)

    @property
    def last(self) -> Piece | None:
        return self.before[-1] if self.before else None

    @cached_property
    def earlier(self) -> Piece | None:
        """The last piece of the lines before the spot's."""
        return self.last_before(self.line)

    def last_before(self, line: int) -> Piece | None:
        """The last piece of the lines before `line`."""
        for number in range(line - 1, 0, -1):
            if found := tuple(pieces(self.lines, number, number)):
                return found[-1]
        return None

    def next_line(self) -> Piece | None:
        """The first piece of the lines after the spot's."""
        return next(pieces(self.lines, self.line + 1), None)

    @cached_property
    def open(self) -> tuple[Opener, ...]:
        """The brackets open at the spot, outermost first."""
        return self.open_before(self.line, self.column)

    def open_before(self, line: int, column: int = 1) -> tuple[Opener, ...]:
        return open_at_end(until(pieces(self.lines), line, column))

    def in_body(self, line: int) -> bool:
        """Whether statements, and not an object's pairs, stand at the beginning of a line."""
        braces = [opener for opener in self.open_before(line) if opener.piece.text == "{"]
        return not braces or braces[-1].body

    def braces_before(self, line: int) -> int:
        """How many braces are open at the beginning of a line."""
        return sum(opener.piece.text == "{" for opener in self.open_before(line))

    def closing(self, opener: Piece) -> Piece | None:
        """What closes a bracket, as far as one can tell."""
        start = (opener.line, opener.column)
        return closing(dropwhile(lambda p: (p.line, p.column) < start, pieces(self.lines, opener.line)))

    def touches(self, piece: Piece | None) -> bool:
        """Whether a piece ends right before the spot."""
        return piece is not None and (piece.line, piece.end) == (self.line, self.column)

    def span(self, piece: Piece) -> Span:
        return self.source.span(piece.line, piece.column, max(1, len(piece.text)))

    def finding(self, code: str, message: str, help: str | None = None, at: Piece | None = None) -> Finding:
        """A mistake at a piece (the one at the spot by default)."""
        piece = at or self.here
        first, last = self._spoilt()
        return Finding(Diagnostic(code, message, (Label(self.span(piece)),), help), first, last)

    def _spoilt(self) -> tuple[int, int]:
        """The spot's line with what it belongs to: brackets around it, lines that it continues."""
        line = last = self.line
        brackets = [o.piece for o in self._since_body() if o.piece.text != "{"]
        if brackets:
            end = self.closing(brackets[0])
            line, last = brackets[0].line, max(line, end.line if end else line)
        while (previous := self.last_before(line)) is not None and previous.text in CONTINUES - {","}:
            line = previous.line
        return line, last

    def _since_body(self) -> tuple[Opener, ...]:
        """The brackets open at the spot, inside the innermost block."""
        bodies = [i for i, opener in enumerate(self.open, 1) if opener.body]
        return self.open[bodies[-1] if bodies else 0 :]
