"""What a schema complains about, said at the line where the value was written and in the user's words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hexdsl.ir.diagnostic import Diagnostic, Label, Span
from hexdsl.ir.quantity import SHARE, Quantity, Unit
from hexdsl.ir.spec.common import IDENTIFIER
from hexdsl.ir.values import Word, suggestion
from hexdsl.lang.evaluate import Place, Value, said
from hexdsl.lang.scope import BAD, Report
from hexdsl.lang.shape import FieldShape, Shape
from hexdsl.lang.units import COUNT_WORDS

Loc = tuple[str | int, ...]
Said = tuple[str, str, str | None]
"""Code, message and help."""

OWN_TYPES = ("unit", "host", "hosts", "file", "name")
"""Types of the schemas' own errors about a value: their messages are written for users."""

LIMITS = {
    "greater_than": "more than", "greater_than_equal": "at least",
    "less_than": "less than", "less_than_equal": "at most",
}  # fmt: skip

MISFIT = " does not fit here"

NAME_HELP = "a name is letters, digits and `_`, at most 64, and does not begin with a digit"


@dataclass(frozen=True)
class Complaint:
    """One error of a schema, and the field that it is about."""

    type: str
    loc: Loc
    input: Any
    message: str
    context: Mapping[str, Any]
    field: FieldShape | None

    @property
    def name(self) -> str:
        """The innermost written name of the path."""
        return str(next((step for step in reversed(self.loc) if isinstance(step, str) and step.isidentifier()), "this"))

    @property
    def unit(self) -> Unit | None:
        return self.field.unit if self.field else None


def validate(shape: Shape, values: Mapping[str, Any], place: Place, bad: set[str], title: str, report: Report) -> Value:
    """The record of these values, or BAD.  Fields in `bad` were reported already and are not missed again."""
    try:
        record = shape.model.model_validate(dict(values))
    except ValidationError as error:
        found = [c for c in complaints(error, shape) if not (c.loc and c.loc[0] in bad)]
        for diagnostic in diagnostics(found, shape, place, title):
            if diagnostic not in report.diagnostics:
                report.diagnostics.append(diagnostic)
        return BAD
    return BAD if bad else record


def complaints(error: ValidationError, shape: Shape) -> list[Complaint]:
    """The errors of a validation, those of a union's branches thinned to the likeliest."""
    by_name = {f.name: f for f in shape.fields.values()}
    return [
        Complaint(
            e["type"],
            e["loc"],
            e["input"],
            e["msg"],
            e.get("ctx", {}),
            by_name.get(str(e["loc"][0]) if e["loc"] else ""),
        )
        for e in error.errors(include_url=False)
    ]


def diagnostics(found: list[Complaint], shape: Shape, place: Place, title: str) -> Iterator[Diagnostic]:
    """One message for all the fields that a block lacks, then one for each wrong value."""
    lacking = [c for c in found if _is_missing_field(c, shape)]
    if lacking:
        fields = [shape.fields[str(c.loc[0]).rstrip("_")] for c in lacking]
        yield Diagnostic("E102", *_missing(fields, title, place.span))
    by_place: dict[Span, list[Complaint]] = {}
    for complaint in found:
        if complaint not in lacking:
            by_place.setdefault(_span(complaint, place), []).append(complaint)
    for span, there in by_place.items():
        code, message, help_ = say(_likeliest(there))
        yield Diagnostic(code, message, (Label(span),), help_)


def _is_missing_field(complaint: Complaint, shape: Shape) -> bool:
    written = str(complaint.loc[0]).rstrip("_") if len(complaint.loc) == 1 else ""
    return complaint.type == "missing" and written in shape.fields


def _span(complaint: Complaint, place: Place) -> Span:
    """A message about a whole block may be about one field of it, whose name is then the type of the error."""
    return place.at((*complaint.loc, "hosts") if complaint.type == "hosts" else complaint.loc).span


def _likeliest(there: list[Complaint]) -> Complaint:
    """Of a union's complaints about one value: for a number the one about units, else the one about words."""
    wanted = (*OWN_TYPES, "range", *LIMITS) if isinstance(there[0].input, Quantity) else ("literal_error",)
    return next((c for c in there if c.type in wanted), there[0])


def _missing(fields: list[FieldShape], title: str, span: Span) -> tuple[str, tuple[Label, ...], str]:
    *most, last = (f"`{f.written}`" for f in fields)
    names = f"{', '.join(most)} and {last}" if most else last
    lines = (f"write `{_example(f)}`" + (f" ({f.description})" if f.description else "") for f in fields)
    return f"`{title}` needs {names}", (Label(span),), "\n".join(lines)


def _example(field: FieldShape) -> str:
    if field.block:
        return f"{header(field)} {{ ... }}"
    if field.reference:
        return f"{field.written} = NAME"
    return f"{field.written} = {_first_example(field.unit) if field.unit else '...'}"


def header(field: FieldShape) -> str:
    """What stands before the brace of a sub-block."""
    return f"{field.written} NAME" if field.block and "name" in field.block.model_fields else field.written


def _first_example(unit: Unit) -> str:
    return unit.example.partition(" or ")[0]


# The words for each type of error.


def say(complaint: Complaint) -> Said:
    """Code, message and help of a complaint; a type that nobody has thought of gets the plain words at the end."""
    if complaint.type in OWN_TYPES:
        message = complaint.message
        if message.endswith("wanted here"):
            message = f"{said(complaint.input)} is not {message.removesuffix(' is wanted here')}"
        return "E110", message, _unit_help(complaint) or complaint.context.get("help")
    if complaint.type == "word":
        return "E111", complaint.message, complaint.context.get("help")
    if complaint.type == "union_tag_invalid":
        known = re.findall(r"'(\w+)'", str(complaint.context["expected_tags"]))
        return (
            "E111",
            f"`{str(complaint.context['tag'])[:60]}` is not known here",
            suggestion(str(complaint.context["tag"]), known),
        )
    if complaint.type == "literal_error":
        return _literal(complaint)
    if complaint.type == "range" or complaint.type in LIMITS:
        return "E113", _range(complaint), complaint.context.get("help") or _described(complaint)
    if complaint.type in ("string_pattern_mismatch", "string_too_long"):
        return _pattern(complaint)
    if complaint.type == "string_type":
        return "E110", f"{said(complaint.input)} is not a string", "paths, ids and prose are written in double quotes"
    if complaint.type == "missing":
        owner = next((s for s in reversed(complaint.loc[:-1]) if isinstance(s, str)), "spec")
        return "E102", f"`{owner}` needs `{complaint.loc[-1]}`", f"add `{complaint.loc[-1]} = ...`"
    if complaint.type == "extra_forbidden":
        return "E101", f"there is no `{complaint.loc[-1]}` here", _described(complaint)
    return "E110", said(complaint.input) + MISFIT, _described(complaint)


def _unit_help(complaint: Complaint) -> str | None:
    """The user's own number with a unit that fits, where the unit was forgotten or a bare `B` was meant as bytes."""
    value, unit = complaint.input, complaint.unit
    if unit is None or not isinstance(value, Quantity) or value.dim or not value.text or value.text.endswith("%"):
        return None
    suffix = re.sub(r"^\$?[\d.]+", "", _first_example(unit))
    if not suffix or unit.example.startswith("$"):
        return None
    number = value.text.rstrip("".join(COUNT_WORDS))
    if number != value.text and unit.suffix == "bytes":
        suffix = {"B": "GB"}.get(value.text[-1], f"{value.text[-1]}B")
    return f"write the unit, such as `{number}{suffix}`"


def _literal(complaint: Complaint) -> Said:
    known = [w.strip(" '") for w in str(complaint.context["expected"]).replace(" or ", ",").split(",")]
    value = complaint.input
    if not isinstance(value, str):
        return "E111", said(value) + MISFIT, _words_or_number(complaint, "", known)
    return "E111", f"`{value[:60]}` is not known here", _words_or_number(complaint, value, known)


def _words_or_number(complaint: Complaint, word: str, known: list[str]) -> str:
    """The nearest word, or every word, and what number may stand there as well."""
    number = complaint.unit and f", or {complaint.unit.words} such as `{_first_example(complaint.unit)}`"
    if len(known) == 1 and number:
        return f"write `{known[0]}`{number}"
    return suggestion(word, known) + (number or "")


def _range(complaint: Complaint) -> str:
    if complaint.type == "range":
        return re.sub(r"^this\b", f"`{complaint.name}`", complaint.message)
    limit = next(iter(complaint.context.values()))
    shown = f"{limit:.0%}" if complaint.unit is SHARE else f"{limit:g}"
    return f"`{complaint.name}` must be {LIMITS[complaint.type]} {shown}"


def _pattern(complaint: Complaint) -> Said:
    pattern = complaint.context.get("pattern")
    if complaint.type == "string_too_long" or pattern == IDENTIFIER:
        text = f"`{complaint.input[:60]}`" if complaint.input else "an empty string"
        return "E110", f"{text} cannot be a name", NAME_HELP
    message = f"`{str(complaint.input)[:60]}` has characters that are not allowed in `{complaint.name}`"
    return "E110", message, f"what is allowed, as a regular expression: `{pattern}`"


def _described(complaint: Complaint) -> str | None:
    """What the field is for, with the words that it knows or an example."""
    field, value = complaint.field, complaint.input
    if field is None:
        return None
    if isinstance(value, str) and not isinstance(value, Word) and value in field.words:
        return f"write `{value}` without quotes"
    about = field.description or f"`{field.written}`"
    if complaint.type in LIMITS or "such as" in about:
        return about
    if field.unit is not None:
        return f"{about}, such as `{_first_example(field.unit)}`"
    return f"{about}: {suggestion('', field.words)}" if field.words else about
