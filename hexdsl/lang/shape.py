"""What a schema says about the form of its block: which fields are values, sub-blocks, references or rules."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Unit
from hexdsl.ir.spec.common import IDENTIFIER, FileRef
from hexdsl.ir.spec.profile import Profile
from hexdsl.ir.spec.rule import Compare, MetricInfo

STRUCTURAL = ("name", "rules", "objectives", "edges", "links")
"""Fields that are filled from statements of their own, never from `name = value`."""


@dataclass(frozen=True)
class FieldShape:
    """One field of a schema.

    `block` is the model of a sub-block, `reference` that of a named block; `kinds` are the kinds of blocks whose names
    a value may hold, `words` the bare words that it knows.  `prose` marks a string, `file` a path, `flag` true or
    false.
    """

    name: str
    written: str
    description: str
    required: bool
    block: type[Ir] | None = None
    many: bool = False
    reference: type[Ir] | None = None
    kinds: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    prose: bool = False
    file: bool = False
    flag: bool = False
    condition: bool = False
    unit: Unit | None = None
    pin: str = ""


@dataclass(frozen=True)
class Shape:
    """A schema as the binder sees it."""

    model: type[Ir]
    fields: dict[str, FieldShape]

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        return getattr(self.model, "METRICS", ())

    @property
    def decisions(self) -> frozenset[str]:
        return frozenset(m.name for m in self.metrics if m.decision)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The bare words that a condition in a field, such as `when`, may name."""
        return getattr(self.model, "WORDS", ())

    def takes(self, field: str) -> bool:
        """Whether the block may hold statements of a form: `rules`, `objectives`, `edges`, `links`."""
        return field in self.model.model_fields

    def member(self, field: str) -> type[Ir]:
        """The model of one entry of a tuple field, such as an edge."""
        return _model_of(_strip(self.model.model_fields[field].annotation)[0])

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that may stand before `=` or `{` in the block."""
        decisions = self.decisions if self.takes("rules") else frozenset()
        return tuple(sorted({f.written for f in self.fields.values()} | decisions))


@cache
def shape_of(model: type[Ir]) -> Shape:
    """The shape of a schema."""
    ends = _ends(model)
    fields = (_field(model, name) for name in model.model_fields if name not in STRUCTURAL and name not in ends)
    return Shape(model, {f.written: f for f in fields})


def _ends(model: type[Ir]) -> tuple[str, ...]:
    """The ends of a flow or link, which stand before its braces."""
    return next((ends for ends in ENDS if set(ends) <= set(model.model_fields)), ())


ENDS = (("source", "target"), ("left", "right"))


def _field(model: type[Ir], name: str) -> FieldShape:
    info = model.model_fields[name]
    bare, many, validated = _strip(info.annotation)
    validated = validated or any(isinstance(m, BeforeValidator) for m in info.metadata)
    inner = bare if isinstance(bare, type) and issubclass(bare, Ir) and not validated else None
    reference = inner if inner is not None and hasattr(inner, "KIND") else None
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    block = inner if reference is None else None
    words = () if block else tuple(dict.fromkeys(_words(info.annotation)))
    return FieldShape(
        name=name,
        written=name.rstrip("_"),
        description=info.description or "",
        required=info.is_required(),
        block=block,
        many=many,
        reference=reference,
        kinds=() if block else tuple(dict.fromkeys(_kinds(info.annotation))),
        words=words,
        prose=_is_prose(info, bare) and not words,
        file=any(isinstance(leaf, type) and issubclass(leaf, (FileRef, Profile)) for leaf in _leaves(info.annotation)),
        flag=bare is bool,
        condition=_holds_condition(info.annotation),
        unit=next((m for m in (*info.metadata, *_deep_metadata(info.annotation)) if isinstance(m, Unit)), None),
        pin=str(extra.get("pin", "")),
    )


def _strip(annotation: Any) -> tuple[Any, bool, bool]:
    """The annotation without `| None` and `tuple[..., ...]`; whether it was a tuple; whether a validator reads it."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [a for a in get_args(annotation) if a is not type(None)]
        return _strip(rest[0]) if len(rest) == 1 else (annotation, False, False)
    if get_origin(annotation) is tuple:
        bare, _, validated = _strip(get_args(annotation)[0])
        return bare, True, validated
    if get_origin(annotation) is Annotated:
        bare, many, _ = _strip(get_args(annotation)[0])
        return bare, many, True
    return annotation, False, False


def _model_of(bare: Any) -> type[Ir]:
    if not (isinstance(bare, type) and issubclass(bare, Ir)):
        raise TypeError(f"{bare} is not a record")
    return bare


def _words(annotation: Any) -> Iterator[str]:
    """The words of literals, and those by which the models of a choice are called."""
    if get_origin(annotation) is Literal:
        yield from (a for a in get_args(annotation) if isinstance(a, str))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = None if hasattr(annotation, "READ") else annotation.model_fields.get("kind")
        yield from _words(kind.annotation) if kind else ()
    else:
        for inner in get_args(annotation):
            yield from _words(inner)


def _kinds(annotation: Any) -> Iterator[str]:
    """The kinds of blocks that a value may name, itself or (`8 * H100`) in a part."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = getattr(annotation, "KIND", None)
        parts = (f.annotation for f in annotation.model_fields.values())
        yield from (kind,) if kind else (p.KIND for p in parts if isinstance(p, type) and hasattr(p, "KIND"))
    else:
        for inner in get_args(annotation):
            yield from _kinds(inner)


def _is_prose(info: FieldInfo, bare: Any) -> bool:
    """Whether a field holds strings that are no names: only these must be written in quotes."""
    metadata = (*info.metadata, *_deep_metadata(info.annotation))
    return bare is str and not any(getattr(m, "pattern", None) == IDENTIFIER for m in _flat(metadata))


def _flat(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for entry in metadata:
        yield entry
        yield from getattr(entry, "metadata", ())


def _leaves(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _leaves(inner)


def _holds_condition(annotation: Any) -> bool:
    return Compare in _leaves(annotation)


def _deep_metadata(annotation: Any) -> tuple[Any, ...]:
    own = tuple(getattr(annotation, "__metadata__", ()))
    return own + tuple(m for inner in get_args(annotation) for m in _deep_metadata(inner))
