"""Machine-made specs: JSON in the form of `hexdsl.ir.spec.Spec`, checked like one that was written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import ValidationError

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Diagnostic, SpecError
from hexdsl.ir.spec import Spec
from hexdsl.lang.complaints import Complaint, Loc, say
from hexdsl.lang.semantics import problems

MOST = 20
"""Errors that are told at once."""

FORMAT_HELP = "`hexc schema --json` prints the format"
FORMAT_VERSION = "1.0"


def read_json(text: str, name: str) -> Spec:
    """The spec of a JSON text; `name` is what messages call it.  Raises SpecError (E160)."""
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} in line {error.lineno}"
        raise SpecError([Diagnostic("E160", f"`{name}` is not JSON: {reason}", (), FORMAT_HELP)]) from None
    except (ValueError, RecursionError):
        reason = "it holds NaN, an infinity or a very long number, or is nested too deep"
        raise SpecError([Diagnostic("E160", f"`{name}` is not usable JSON: {reason}", (), FORMAT_HELP)]) from None
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        found = (_complaint(dict(e)) for e in error.errors(include_url=False))
        raise SpecError(tuple(islice(dict.fromkeys(found), MOST))) from None
    if wrong := tuple(islice(dict.fromkeys(_wrong(spec)), MOST)):
        raise SpecError(wrong)
    return spec


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _complaint(error: dict[str, Any]) -> Diagnostic:
    complaint = Complaint(error["type"], error["loc"], error["input"], error["msg"], error.get("ctx", {}), None)
    _, message, help_ = say(complaint)
    place = complaint.loc[:-1] if complaint.type in ("missing", "extra_forbidden") else complaint.loc
    if complaint.type == "missing":
        message = f"`{complaint.loc[-1]}` is missing"
    # Help of the schemas is about the language, whose values carry units; only a nearest word helps here too.
    suggested = help_ if help_ and help_.startswith(("did you mean", "one of")) else None
    return _diagnostic(place, message, suggested)


def _diagnostic(loc: Loc, message: str, help_: str | None) -> Diagnostic:
    place = f"`{'.'.join(map(str, loc))}`: " if loc else ""
    return Diagnostic("E160", place + message, (), help_ or FORMAT_HELP)


def _wrong(spec: Spec) -> Iterator[Diagnostic]:
    if spec.format_version != FORMAT_VERSION:
        yield _diagnostic(("format_version",), f"this version of hexc reads format {FORMAT_VERSION}", None)
    for loc, record in _records((), spec):
        for problem in problems(record):
            yield _diagnostic((*loc, *problem.loc), problem.message, problem.help)
    for field in ("workflows", "clusters", "models", "workloads", "gpus"):
        names: list[str] = [record.name for record in getattr(spec, field)]
        for i, name in enumerate(names):
            if name in names[:i]:
                yield _diagnostic((field, i, "name"), f"`{name}` is declared twice", "give one of them another name")


def _records(loc: Loc, value: Any) -> Iterator[tuple[Loc, Ir]]:
    """Every named block of a spec, those inside others too."""
    if isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _records((*loc, i), inner)
    if isinstance(value, Ir):
        if hasattr(type(value), "KIND"):
            yield loc, value
        for name in type(value).model_fields:
            yield from _records((*loc, name), getattr(value, name))
