"""The formatter: indents by depth, spaces words evenly, aligns `=`; line breaks and comments are the user's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

from hexdsl.lang.scan import CLOSER, CLOSERS, CONTINUES, Piece, pieces_of
from hexdsl.lang.source import Source
from hexdsl.lang.syntax import parse

INDENT = "  "


class FormatError(RuntimeError):
    """The formatter would have changed more than the layout: a bug in hexc, never the user's fault."""


def format_text(source: Source) -> str:
    """The text of a spec in the one layout.  Raises SpecError where it does not parse."""
    tree, text = parse(source), _layout(source)
    again = Source(source.name, text)
    if parse(again) != tree or _comments(again) != _comments(source) or _layout(again) != text:
        raise FormatError(f"formatting `{source.name}` would change its meaning")
    return text


@dataclass(frozen=True, slots=True)
class _Line:
    """A line to be written.  `name` is set where the line is one `name = value`, `opens` and `closes` for braces."""

    depth: int = 0
    words: str = ""
    comment: str = ""
    name: str = ""
    opens: bool = False
    closes: bool = False

    @property
    def blank(self) -> bool:
        return not (self.words or self.comment)

    def written(self, width: int) -> str:
        words = f"{self.name:<{width}}{self.words[len(self.name) :]}"
        return f"{INDENT * self.depth}{'  '.join(filter(None, (words, self.comment)))}".rstrip()


def _layout(source: Source) -> str:
    lines = _sparing(_lines(source))
    runs = (list(run) for _, run in groupby(lines, key=lambda line: (line.depth, bool(line.name))))
    return "".join(_aligned(run) for run in runs)


def _aligned(run: list[_Line]) -> str:
    width = max(len(line.name) for line in run)
    return "".join(f"{line.written(width)}\n" for line in run)


def _sparing(lines: Iterable[_Line]) -> Iterator[_Line]:
    """At most one blank line in a row; none at the ends of the file and of a block."""
    kept: _Line | None = None
    gap = False
    for line in lines:
        if line.blank:
            gap = True
            continue
        if gap and kept is not None and not kept.opens and not line.closes:
            yield _Line()
        yield line
        kept, gap = line, False


def _lines(source: Source) -> Iterator[_Line]:
    open_on: list[int] = []  # the line of each open bracket: a line that opens several indents once
    last: Piece | None = None
    for number, text in enumerate(source.lines, 1):
        found = tuple(pieces_of(text, number))
        code = tuple(piece for piece in found if not piece.is_comment)
        closed = _leading_closers(code)
        inside = open_on[: len(open_on) - closed]
        continued = last is not None and last.text in CONTINUES - {","}
        depth = len(set(inside)) + continued
        before = len(open_on)
        _track(open_on, code)
        words, name = _spaced(code, last), "" if continued else _sole_name(code)
        comment = found[-1].text.rstrip() if len(found) > len(code) else ""
        yield _Line(depth, words, comment, name, opens=len(open_on) > before, closes=closed > 0)
        last = code[-1] if code else last


def _leading_closers(code: tuple[Piece, ...]) -> int:
    return next((i for i, piece in enumerate(code) if piece.text not in CLOSERS), len(code))


def _track(open_on: list[int], code: tuple[Piece, ...]) -> None:
    for piece in code:
        if piece.text in CLOSER:
            open_on.append(piece.line)
        elif piece.text in CLOSERS:
            open_on.pop()


def _sole_name(code: tuple[Piece, ...]) -> str:
    """The name, where the line is `name = value` and nothing else."""
    if len(code) < 2 or code[1].text != "=":
        return ""
    depth = 0
    for piece in code[:-1]:
        depth += (piece.text in CLOSER) - (piece.text in CLOSERS)
        if piece.text == "," and depth == 0:
            return ""
    return code[0].text


def _spaced(code: tuple[Piece, ...], last: Piece | None) -> str:
    """The pieces of a line with the spaces between them; `last` is the one before the line."""
    if not code:
        return ""
    signs = {piece for before, piece in zip((last, *code), code, strict=False) if _is_sign(before, piece)}
    out = [code[0].text]
    for before, piece in pairwise(code):
        out += ["" if _joined(before, piece, signs, code[0]) else " ", piece.text]
    return "".join(out)


def _is_sign(before: Piece | None, piece: Piece) -> bool:
    if piece.text not in {"+", "-"}:
        return False
    return before is None or not before.ends_value or before.line < piece.line or before.text in OBJECTIVES


OBJECTIVES = frozenset({"maximize", "minimize"})


def _joined(before: Piece, piece: Piece, signs: set[Piece], head: Piece) -> bool:
    """Whether no space stands between two pieces."""
    if before.text in {"(", "[", ".", ".."} or piece.text in {")", "]", ",", ".", ".."} or before in signs:
        return True
    if piece.text in {"(", "["}:
        return before.ends_value and before.text not in OBJECTIVES
    if piece.text == ":":
        return head.text == "param"
    return before.text == "{" and piece.text == "}"


def _comments(source: Source) -> list[str]:
    found = (piece for number, line in enumerate(source.lines, 1) for piece in pieces_of(line, number))
    return [piece.text.rstrip() for piece in found if piece.is_comment]
