"""Many syntax errors in one run: tell what is wrong, mend the lines, parse on.

A line with an error is replaced by its braces alone, so that the text around it still parses and nothing is
reported twice.  What each error is called is decided in `hexdsl.lang.mistakes`.
"""

from __future__ import annotations

from collections.abc import Iterable

import lark

from hexdsl.grammar.load import TooDeep, parser
from hexdsl.ir.diagnostic import Diagnostic, Label
from hexdsl.lang.lookalikes import meant
from hexdsl.lang.mistakes import tell
from hexdsl.lang.scan import CLOSER, CLOSERS, pieces
from hexdsl.lang.source import Source
from hexdsl.lang.spot import Finding, Spot
from hexdsl.lang.strings import unknown_escapes
from hexdsl.lang.syntax import FAILURES

AT_MOST = 20
READ_AGAIN = 2_000_000
"""Characters parsed in search of more errors, so that a huge file with many errors ends soon."""


def diagnose_all(source: Source, failure: Exception) -> tuple[Diagnostic, ...]:
    """Every syntax error of a text that failed to parse with `failure`, in the order of the text."""
    lines, found, mended, read = list(source.lines), list[Diagnostic](), set[int](), 0
    problem: Exception | None = failure
    while problem is not None and len(found) < AT_MOST and read < READ_AGAIN:
        spot = _spot(source, lines, problem)
        finding = tell(spot, problem)
        if mended & set(finding.lines):
            break
        found.append(finding.diagnostic)
        if finding.final:
            break
        _mend(lines, finding, spot)
        mended.update(finding.lines)
        _drop_before(lines, finding.first)
        read += source.starts[spot.line - 1]
        problem = _attempt(lines)
    return tuple(found)


def _attempt(lines: list[str]) -> Exception | None:
    try:
        parser().parse("\n".join(lines) + "\n")
    except FAILURES as failure:
        return failure
    return None


def _spot(source: Source, lines: list[str], problem: Exception) -> Spot:
    token = problem.token if isinstance(problem, (TooDeep, lark.UnexpectedToken)) else None
    at = problem if isinstance(problem, lark.UnexpectedInput) else problem.token  # type: ignore[attr-defined]
    kind, text = (token.type, str(token)) if token is not None else ("", "")
    accepts = frozenset(problem.accepts or ()) if isinstance(problem, lark.UnexpectedToken) else frozenset()
    line, column = at.line, at.column
    if kind in {"_NL", "$END"}:
        line, column = _end_of_code(lines, len(lines) if kind == "$END" else line)
    return Spot(source, tuple(lines), line, column, kind, text, accepts)


def _end_of_code(lines: list[str], line: int) -> tuple[int, int]:
    """Just behind the last piece at or before a line."""
    for number in range(line, 0, -1):
        if found := list(pieces(lines, number, number)):
            return number, found[-1].end
    return 1, 1


def _mend(lines: list[str], finding: Finding, spot: Spot) -> None:
    for number, text in zip(finding.lines, _skeletons(finding, spot), strict=True):
        lines[number - 1] = text


def _skeletons(finding: Finding, spot: Spot) -> list[str]:
    """The braces of the finding's lines that have no partner there, on the last of them; the others empty."""
    opened, closed = finding.lacking, 0
    in_string = False  # an open one: a brace in it is real only where it closes its own line's
    for piece in pieces(spot.lines, finding.first, finding.last):
        in_string |= piece.text == '"'
        text = meant(piece.text) or piece.text  # what only looks like a brace was meant as one
        if text == "{" and not in_string:
            opened += 1
        elif text == "}" and opened:
            opened -= 1
        elif text == "}" and not in_string:
            closed += 1
    closed = min(closed, spot.braces_before(finding.first))
    net = opened - closed
    block = "x {" if spot.in_body(finding.first) else "x = {"
    return [""] * (finding.last - finding.first) + [f"{block} " * net if net > 0 else "}" * -net]


def _drop_before(lines: list[str], line: int) -> None:
    """Empties the statements that ended before the one around `line`: they parsed, and need not again."""
    depth, start = 0, 1
    for piece in pieces(lines, 1, line):
        if depth == 0:
            start = piece.line
        depth = max(0, depth + (piece.text in CLOSER) - (piece.text in CLOSERS))
    lines[: start - 1] = [""] * (start - 1)


def bad_escapes(source: Source, strings: Iterable[lark.Token]) -> tuple[Diagnostic, ...]:
    """The escapes in string tokens that have no meaning."""
    return tuple(
        _bad_escape(source, token, offset, text)
        for token in sorted(strings, key=lambda token: token.start_pos or 0)
        for offset, text in unknown_escapes(str(token))
    )


def _bad_escape(source: Source, token: lark.Token, offset: int, text: str) -> Diagnostic:
    span = source.span(token.line or 1, (token.column or 1) + offset, len(text))
    help = r"known are `\"`, `\\`, `\n`, `\t` and `\u00e9`; a backslash itself is `\\`"
    return Diagnostic("S024", f"`{text}` is no escape", (Label(span),), help)
