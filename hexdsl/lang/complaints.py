"""What a schema complains about, said at the line where the value was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hexdsl.ir.diagnostic import Diagnostic, Label, Severity
from hexdsl.ir.values import Word, suggestion
from hexdsl.lang.evaluate import Place, Value, said
from hexdsl.lang.scope import BAD, Report
from hexdsl.lang.shape import Shape, shape_of

_WORD = {"literal_error", "word", "union_tag_invalid", "enum"}
_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "range"}


def validate(
    shape: Shape, values: Mapping[str, Any], place: Place, bad: set[str], title: str, report: Report
) -> Value:
    """The record of these values, or BAD.  Fields in `bad` were reported already and are not missed again."""
    try:
        record = shape.model.model_validate(dict(values))
    except ValidationError as error:
        found = [_diagnostic(dict(e), shape, place, title) for e in error.errors() if not _known_bad(dict(e), bad)]
        report.diagnostics.extend(d for d in found if d not in report.diagnostics)
        return BAD
    return BAD if bad else record


def _known_bad(error: Mapping[str, Any], bad: set[str]) -> bool:
    return bool(error["loc"]) and error["loc"][0] in bad


def _diagnostic(error: Mapping[str, Any], shape: Shape, place: Place, title: str) -> Diagnostic:
    loc = tuple(error["loc"])
    if error["type"] == "missing":
        return _missing(loc, shape, place, title)
    span = place.at(loc).span
    code, message, help_ = _words(error, shape, loc)
    severity: Severity = "error"
    return Diagnostic(code, message, (Label(span),), help_, severity)


def _missing(loc: tuple[str | int, ...], shape: Shape, place: Place, title: str) -> Diagnostic:
    name = str(loc[-1])
    field = shape.fields.get(name) if len(loc) == 1 else None
    inner = place.at(loc[:-1])
    owner = f"`{title}`" if len(loc) == 1 else "this"
    example = field.unit.example if field and field.unit else "..."
    help_ = f"{field.description}: write `{name} = {example}`" if field else f"add `{name} = ...`"
    if field and field.block:
        help_ = f"{field.description}: write `{name}{' NAME' if field.many else ''} {{ ... }}`"
    return Diagnostic("E102", f"{owner} needs `{name}`", (Label(inner.span),), help_)


def _words(error: Mapping[str, Any], shape: Shape, loc: tuple[str | int, ...]) -> tuple[str, str, str | None]:
    context = error.get("ctx", {})
    kind = error["type"]
    if kind in ("unit", "host", "hosts", "file", "name"):
        return "E110", error["msg"], context.get("help")
    if kind == "literal_error":
        return "E111", *_literal(error)
    if kind in _WORD:
        return "E111", error["msg"], context.get("help")
    if kind in _RANGE:
        return "E113", _range(error), context.get("help")
    if kind == "string_pattern_mismatch":
        return "E110", f"{_text(error['input'])} has characters that are not allowed here", _pattern_help(context)
    if kind == "string_type":
        return "E110", f"{said(error['input'])} is not a string", "paths, ids and prose are written in double quotes"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        names = shape.names if len(loc) == 1 else ()
        return "E101", f"there is no `{loc[-1]}` here", suggestion(str(loc[-1]), names) if names else None
    return "E110", f"{said(error['input'])} does not fit here", _expected(error, shape, loc)


def _literal(error: Mapping[str, Any]) -> tuple[str, str]:
    known = [w.strip(" '") for w in str(error["ctx"]["expected"]).replace(" or ", ",").split(",")]
    value = error["input"]
    if not isinstance(value, str):
        return f"{said(value)} does not fit here", suggestion("", known)
    return f"`{value[:60]}` is not known here", suggestion(value, known)


def _range(error: Mapping[str, Any]) -> str:
    if error["type"] == "range":
        return str(error["msg"])
    limit = next(iter(error["ctx"].values()))
    words = {
        "greater_than": "more than", "greater_than_equal": "at least",
        "less_than": "less than", "less_than_equal": "at most",
    }  # fmt: skip
    return f"this must be {words[error['type']]} {limit}"


def _text(value: Any) -> str:
    return f"`{str(value)[:60]}`"


def _pattern_help(context: Mapping[str, Any]) -> str:
    return f"it must match {context.get('pattern', 'a plain name')}"


def _expected(error: Mapping[str, Any], shape: Shape, loc: tuple[str | int, ...]) -> str | None:
    value = error["input"]
    if isinstance(value, Word):
        return "a name must be declared; a string is written in double quotes"
    field = shape.fields.get(str(loc[0])) if loc else None
    if field is None:
        return None
    if field.block is not None:
        return f"write `{field.written} {{ {', '.join(f'{n} = ...' for n in shape_of(field.block).names[:2])} }}`"
    return f"{field.description}: for example `{field.unit.example}`" if field.unit else field.description or None
