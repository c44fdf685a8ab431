"""What a syntax error is called, and what to write instead: one small recogniser a situation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from hexdsl.grammar.load import MAX_DEPTH, MAX_OPERATORS, TooDeep
from hexdsl.ir.diagnostic import Diagnostic, Label
from hexdsl.lang import marks
from hexdsl.lang.scan import CLOSER, CONTINUES, OPERATORS, Piece, pieces, shortened
from hexdsl.lang.spot import Finding, Spot
from hexdsl.lang.units import UnitError, quantity

VALUES = frozenset({"NUMBER", "QUANTITY", "MONEY", "STRING", "NAME"})
STATEMENTS = frozenset({"LET", "PARAM", "IMPORT", "MAXIMIZE", "MINIMIZE"})

Recogniser = Callable[[Spot], Finding | None]


def tell(spot: Spot, problem: Exception) -> Finding:
    """What the mistake at a spot is."""
    if isinstance(problem, TooDeep):
        return _final(_too_deep(spot, problem))
    return next(filter(None, (recognise(spot) for recognise in RECOGNISERS)))


def _final(finding: Finding) -> Finding:
    return Finding(finding.diagnostic, finding.first, finding.last, final=True)


def _too_deep(spot: Spot, problem: TooDeep) -> Finding:
    if problem.nested:
        return spot.finding("S080", f"brackets are nested deeper than {MAX_DEPTH}")
    help = "name parts of it with `let`"
    return spot.finding("S081", f"a value with more than {MAX_OPERATORS} operators", help)


# Numbers and units.


def _spaced_unit(spot: Spot) -> Finding | None:
    """`12 req/s`."""
    unit = re.match(r"(%|[A-Za-z]+(/[A-Za-z]+)*)(?![\w(])", spot.lines[spot.line - 1][spot.column - 1 :])
    number = spot.last
    if not unit or number is None or not number.is_number or spot.kind not in {"", "NAME"}:
        return None
    try:
        quantity(number.text + unit[1])
    except UnitError:
        return None
    whole = Piece(spot.lines[spot.line - 1][number.column - 1 : spot.column - 1] + unit[1], spot.line, number.column)
    return spot.finding(
        "S010", "a unit follows its number without a space", f"write `{shortened(number.text + unit[1])}`", whole
    )


def _bad_number(spot: Spot) -> Finding | None:
    """`80GB2`, `.5`, `1.`, `1.2.3`, `40$`."""
    line, last = spot.lines[spot.line - 1], spot.last
    if spot.here.text == "$":
        number = last.text if last is not None and last.is_number else "40"
        return spot.finding("S025", "`$` stands before a number", f"for example `${shortened(number)}`")
    if spot.kind == "DOT" and line[spot.column : spot.column + 1].isdigit():
        return spot.finding("S025", "a number needs a digit before the point", "write `0.5`, not `.5`")
    if last is not None and last.text == "." and len(spot.before) > 1 and spot.before[-2].is_number:
        return spot.finding("S025", "a number has one point, with digits after it", at=spot.before[-2])
    if last is not None and last.is_number and last.end > spot.column:
        return spot.finding("S025", f"`{shortened(last.text)}` is neither a number nor a name", at=last)
    return None


# Brackets.


def _wrong_closer(spot: Spot) -> Finding | None:
    """A closing bracket that closes nothing, or the wrong bracket."""
    if spot.kind not in {"RPAR", "RSQB", "RBRACE"}:
        return None
    opener = spot.open[-1].piece if spot.open else None
    if opener is None or (opener.text == "{" and spot.text != "}"):
        return spot.finding("S012", f"this `{spot.text}` closes nothing", "delete it, or look for one too many before")
    if CLOSER[opener.text] == spot.text or spot.text == "}":
        return None
    finding = spot.finding("S021", f"`{opener.text}` is closed by `{spot.text}`", f"write `{CLOSER[opener.text]}`")
    return _also(spot, finding, opener, "opened here")


def _open_bracket(spot: Spot) -> Finding | None:
    """`(` or `[` without its partner: seen at a `}`, at the end, or where the next line no longer fits."""
    opener = spot.open[-1].piece if spot.open else None
    if opener is None or opener.text == "{":
        return None
    moved_on = spot.line > opener.line and not spot.closing(opener)
    if spot.kind not in {"$END", "RBRACE"} and not moved_on:
        return None
    label = Label(spot.span(opener))
    help = f"add `{CLOSER[opener.text]}`"
    last = spot.line - 1 if spot.line > opener.line and spot.kind != "$END" else spot.line
    return Finding(Diagnostic("S014", f"this `{opener.text}` is never closed", (label,), help), opener.line, last)


def _list_in_parentheses(spot: Spot) -> Finding | None:
    """`tp in (1, 2)`."""
    opener = spot.open[-1].piece if spot.open else None
    if spot.kind != "COMMA" or opener is None or opener.text != "(":
        return None
    return spot.finding("S026", "a list is written in square brackets", "write `[` and `]`", opener)


def _open_brace(spot: Spot) -> Finding | None:
    if spot.kind != "$END" or not spot.open:
        return None
    opener = _suspect(spot) or spot.open[-1].piece
    end = spot.finding("S005", "a `}` is missing at the end of the file", "every `{` needs a `}`")
    return _final(_also(spot, end, opener, "this one is probably not closed"))


def _suspect(spot: Spot) -> Piece | None:
    """The first brace whose partner stands further left than its own line: the user forgot one in between."""
    stack: list[Piece] = []
    for piece in pieces(spot.lines):
        if piece.text == "{":
            stack.append(piece)
        elif piece.text == "}" and stack:
            opener = stack.pop()
            if _indent(spot, piece.line) < _indent(spot, opener.line):
                return opener
    return None


def _indent(spot: Spot, line: int) -> int:
    text = spot.lines[line - 1].expandtabs(4)
    return len(text) - len(text.lstrip())


def _also(spot: Spot, finding: Finding, piece: Piece, text: str) -> Finding:
    d = finding.diagnostic
    labels = (*d.labels, Label(spot.span(piece), text))
    return Finding(Diagnostic(d.code, d.message, labels, d.help), finding.first, finding.last)


# Statements.


def _comment(spot: Spot) -> Finding | None:
    """`// text` and `/* text */`."""
    line, at = spot.lines[spot.line - 1], spot.column - 1
    for start in (at - 1, at):
        if start >= 0 and line[start : start + 2] in {"//", "/*"}:
            mark = Piece(line[start : start + 2], spot.line, start + 1)
            return spot.finding("S011", "a comment begins with `#`", f"write `#` for `{mark.text}`", mark)
    return None


def _colon(spot: Spot) -> Finding | None:
    """`key: value`, and `name:` with an indented block."""
    words = [*spot.statement, spot.here] if spot.kind == "COLON" else list(spot.statement)
    colons = [i for i, piece in enumerate(words) if piece.text == ":"]
    if not colons:
        return None
    at = colons[-1]
    if at == len(words) - 1 and spot.kind in {"_NL", "LBRACE"}:
        said = shortened(" ".join(piece.text for piece in words[:at]))
        help = f"write `{said} {{`, and `}}` behind the block"
        return spot.finding("S009", "a block begins with `{`, not with `:`", help, words[at])
    name = words[at - 1] if at else None
    labelled = at > 1 and words[at - 2].text not in {"param", "(", "["}
    if name is None or labelled or not (name.is_word or name.is_string):
        return None
    said = shortened(name.text)
    return spot.finding("S006", "a value is set with `=`, not with `:`", f"write `{said} = ...`", words[at])


def _missing_value(spot: Spot) -> Finding | None:
    """Nothing after `=`, an operator or an arrow; the gap may show only on the next line."""
    last = spot.last
    if last is not None and last.text in WANT_VALUE and spot.kind not in VALUES:
        return spot.finding("S008", f"a value is missing after `{last.text}`", at=_behind(last))
    earlier = spot.earlier
    shown_by_next = not spot.before or (len(spot.before) == 1 and spot.kind in BEGUN)
    if earlier is None or earlier.text not in CONTINUES - {","} or not shown_by_next:
        return None
    finding = spot.finding("S008", f"a value is missing after `{earlier.text}`", at=_behind(earlier))
    return Finding(finding.diagnostic, finding.first, earlier.line)


BEGUN = frozenset({"EQUAL", "LBRACE", "COLON", "NAME", "STRING", "COMPARE"})
"""What follows the first word of a new statement, and not a value that goes on."""

WANT_VALUE = OPERATORS | {"=", "->", "<->", "maximize", "minimize"}


def _behind(piece: Piece) -> Piece:
    return Piece(" ", piece.line, piece.end)


def _set_or_compare(spot: Spot) -> Finding | None:
    """`p95(ttft) = 400ms`."""
    if spot.kind != "EQUAL" or "COMPARE" not in spot.accepts:
        return None
    return spot.finding("S018", "only a bare name can be set with `=`", "to compare, write `==`")


def _chained(spot: Spot) -> Finding | None:
    if spot.kind not in {"COMPARE", "IN"} or "COMPARE" in spot.accepts or "AND" not in spot.accepts:
        return None
    return spot.finding("S022", "comparisons cannot be chained", "write `a < b and b < c`")


def _import(spot: Spot) -> Finding | None:
    words = [piece.text for piece in spot.statement]
    if words != ["import"]:
        return None
    return spot.finding("S023", "the path of an import is a string", 'write `import "file.hex"`')


def _brace_below(spot: Spot) -> Finding | None:
    following = spot.next_line()
    if spot.kind != "_NL" or not _wants_body(spot) or following is None or following.text != "{":
        return None
    text = "a block opens on the line of its name"
    finding = spot.finding("S007", text, "move the `{` up, behind the name", following)
    return Finding(finding.diagnostic, spot.line, following.line)


def _no_body(spot: Spot) -> Finding | None:
    if spot.kind not in {"_NL", "RBRACE", "COMMA", "$END"} or not _wants_body(spot):
        return None
    words = [piece.text for piece in spot.statement]
    first, last = spot.statement[0], spot.statement[-1]
    said = shortened(spot.lines[spot.line - 1][first.column - 1 : last.end - 1])
    help = f"write `{said} {{ ... }}`"
    if len(words) == 2:
        help = f"write `{words[0]} = {words[1]}` for a field, {help.removeprefix('write ')} for a block"
    return spot.finding("S016", f"`{said}` is not a whole statement", help, Piece(said, spot.line, first.column))


def _wants_body(spot: Spot) -> bool:
    return "LBRACE" in spot.accepts and not spot.accepts & {"NUMBER", "_NL"} and len(spot.statement) > 1


def _missing_opener(spot: Spot) -> Finding | None:
    """`nodes box gpus = 8`."""
    words = spot.statement
    if spot.kind != "EQUAL" or len(words) != 3 or not all(word.is_word for word in words):
        return None
    block, field = f"{words[0].text} {words[1].text}", words[2]
    message = f"a `{{` is missing before `{shortened(field.text)}`"
    help = f"write `{shortened(block)} {{ {shortened(field.text)} = ... }}`"
    return replace(spot.finding("S016", message, help, field), lacking=1)


def _missing_equals(spot: Spot) -> Finding | None:
    """`memory 80GB`."""
    if spot.kind not in {"NUMBER", "QUANTITY", "MONEY"} or len(spot.statement) != 1 or "EQUAL" not in spot.accepts:
        return None
    name = shortened(spot.statement[0].text)
    message = f"`=` is missing between `{name}` and `{spot.short}`"
    return spot.finding("S017", message, f"write `{name} = {spot.short}`")


def _missing_comma(spot: Spot) -> Finding | None:
    if spot.kind not in VALUES | STATEMENTS | {"NOT"} or spot.last is None or not spot.last.ends_value:
        return None
    if "COMMA" in spot.accepts:
        return spot.finding("S013", f"`{spot.short}` follows without a `,`", f"write `, {spot.short}`")
    if "_NL" in spot.accepts:
        return spot.finding("S019", "a statement begins on its own line", f"begin a new line before `{spot.short}`")
    return None


def _missing_comma_below(spot: Spot) -> Finding | None:
    """A list over several lines whose line before lacks its comma."""
    earlier = spot.earlier
    if spot.before or earlier is None or "COMMA" not in spot.accepts or spot.kind not in VALUES:
        return None
    help = f"write `,` behind `{shortened(earlier.text)}`"
    return spot.finding("S013", f"`{spot.short}` follows without a `,`", help)


# Everything else.

OPERATOR_TOKENS = frozenset({"AND", "OR", "COMPARE", "IN", "SIGN", "SCALE", "_DOTS", "DOT", "LPAR", "LSQB"})
VALUE_TOKENS = frozenset({"LPAR", "LSQB", "LBRACE", "SIGN", "NOT", "MONEY", "QUANTITY", "NUMBER", "NAME", "STRING"})
WORDS = MappingProxyType(
    {
        "NAME": "a name",
        "STRING": "a string",
        "EQUAL": "`=`",
        "COMMA": "`,`",
        "COLON": "`:`",
        "LBRACE": "`{`",
        "RBRACE": "`}`",
        "RPAR": "`)`",
        "RSQB": "`]`",
        "AS": "`as`",
        "_ARROW": "`->`",
        "_LINK": "`<->`",
        "_NL": "a new line",
    }
)
FOUND = MappingProxyType({"_NL": "the end of the line", "$END": "the end of the file"})


def _other(spot: Spot) -> Finding:
    found = FOUND.get(spot.kind, f"`{shortened(spot.here.text)}`")
    return spot.finding("S001", f"expected {_wanted(spot.accepts)}, found {found}")


def _wanted(accepts: frozenset[str]) -> str:
    if accepts & STATEMENTS:
        return "a statement or `}`" if "RBRACE" in accepts else "a statement"
    groups = []
    left = set(accepts)
    if "NUMBER" in accepts:
        groups, left = ["a value"], left - VALUE_TOKENS
    elif "SCALE" in accepts:
        groups, left = ["an operator"], left - OPERATOR_TOKENS
    words = [*groups, *(WORDS[token] for token in WORDS if token in left)]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words or ["nothing more"])


RECOGNISERS: tuple[Recogniser, ...] = (
    marks.open_string,
    marks.single_quotes,
    marks.semicolon,
    _comment,
    _spaced_unit,
    _bad_number,
    marks.foreign_operator,
    marks.odd_character,
    _wrong_closer,
    _open_bracket,
    _open_brace,
    _list_in_parentheses,
    _colon,
    _import,
    _missing_value,
    _set_or_compare,
    _chained,
    _brace_below,
    _missing_opener,
    _no_body,
    _missing_equals,
    _missing_comma,
    _missing_comma_below,
    _other,
)
