"""JSON that a program wrote: read, and what is wrong with it in our own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hexdsl.ir.quantity import UNITS
from hexdsl.lang.complaints import MISFIT, Complaint, Loc, say


class NoJson(ValueError):
    """A text that is no usable JSON, and why."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.  Raises NoJson."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise NoJson(_broken(text, error)) from None
    except RecursionError:
        raise NoJson("it is nested too deep") from None
    except ValueError:
        raise NoJson("it holds NaN, an infinity or a very long number") from None


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _broken(text: str, error: json.JSONDecodeError) -> str:
    if not text.strip():
        return "it is empty"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
        return f"it ends in the middle (line {error.lineno}), as a file does that was cut off"
    found = text[error.pos]
    shown = f"`{found}`" if found.isprintable() else f"the character U+{ord(found):04X}"
    return f"{shown} does not fit in line {error.lineno}, column {error.colno}"


WANTED = {
    "int": "a whole number", "float": "a number", "string": "a string", "bool": "true or false", "tuple": "a list",
    "list": "a list", "dict": "an object", "model": "an object", "dataclass": "an object",
    "too": "one of another length",
}  # fmt: skip
"""What a schema's error wants, by how the name of its type begins."""


def complained(error: Mapping[str, Any], data: Any) -> tuple[str, str, str | None]:
    """What a schema's error about JSON data says: the path of the part, what is wrong with it, the nearest known word.

    `error` is one of those of pydantic's `ValidationError.errors()`.
    """
    complaint = Complaint(error["type"], error["loc"], error["input"], error["msg"], error.get("ctx", {}), None)
    _, message, help_ = say(complaint)
    place = complaint.loc[:-1] if complaint.type in ("missing", "extra_forbidden") else complaint.loc
    if complaint.type == "missing":
        message = f"`{str(complaint.loc[-1]).rstrip('_')}` is missing"
    if complaint.type.startswith("union_tag") and "kind" not in complaint.input:
        message = "`kind` is missing"
    wanted = WANTED.get(complaint.type.partition("_")[0])
    if wanted and message.endswith(MISFIT):
        message = f"{message.removesuffix(MISFIT)} stands where {wanted} is wanted"
    # Help of the schemas is about the language, whose values carry units; only a nearest word helps here too.
    suggested = help_ if help_ and help_.startswith(("did you mean", "one of")) else None
    return path_of(place, data), message, suggested


def path_of(loc: Loc, data: Any) -> str:
    """`gpus.1.memory_bytes`: a path by the names in the data; steps that it lacks (tags of a union) are left out."""
    steps = []
    for step in loc:
        key = _key(step, data)
        if key is not None:
            steps.append(str(key))
            data = data[key]
    return ".".join(steps)


def _key(step: str | int, data: Any) -> str | int | None:
    if isinstance(data, (list, tuple)):
        return step if isinstance(step, int) and step < len(data) else None
    if not isinstance(data, Mapping):
        return None
    plain = str(step).rstrip("_")
    names = (str(step), plain, *(f"{plain}_{unit.suffix}" for unit in UNITS))
    return next((name for name in names if name in data), None)
