"""Machine-made specs: JSON in the form of `hexdsl.ir.spec.Spec`, checked like one that was written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import ValidationError

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Diagnostic, SpecError
from hexdsl.ir.spec import Spec
from hexdsl.lang.complaints import Loc
from hexdsl.lang.semantics import problems
from hexdsl.lang.written import NoJson, complained, parse_json, path_of

MOST = 20
"""Errors that are told at once."""

FORMAT_HELP = "`hexc schema --json` prints the format"
FORMAT_VERSION = "1.0"


def read_json(text: str, name: str) -> Spec:
    """The spec of a JSON text; `name` is what messages call it.  Raises SpecError (E160)."""
    try:
        data = parse_json(text)
    except NoJson as error:
        raise SpecError([Diagnostic("E160", f"`{name}` is not JSON: {error}", (), FORMAT_HELP)]) from None
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        found = (_diagnostic(*complained(e, data)) for e in error.errors(include_url=False))
        raise SpecError(tuple(islice(dict.fromkeys(found), MOST))) from None
    if wrong := tuple(islice(dict.fromkeys(_wrong(spec, data)), MOST)):
        raise SpecError(wrong)
    return spec


def _diagnostic(place: str, message: str, help_: str | None) -> Diagnostic:
    return Diagnostic("E160", (f"`{place}`: " if place else "") + message, (), help_ or FORMAT_HELP)


def _wrong(spec: Spec, data: Any) -> Iterator[Diagnostic]:
    if spec.format_version != FORMAT_VERSION:
        yield _diagnostic("format_version", f"this version of hexc reads format {FORMAT_VERSION}", None)
    for loc, record in _records((), spec):
        for problem in problems(record):
            yield _diagnostic(path_of((*loc, *problem.loc), data), problem.message, problem.help)
    for field in ("workflows", "clusters", "models", "workloads", "gpus"):
        names: list[str] = [record.name for record in getattr(spec, field)]
        for i, name in enumerate(names):
            if name in names[:i]:
                yield _diagnostic(f"{field}.{i}.name", f"`{name}` is declared twice", "give one of them another name")


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
