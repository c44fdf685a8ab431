"""What a schema says about the form of its block: which fields are values, sub-blocks, references or rules."""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Unit
from hexdsl.ir.spec.rule import Compare, MetricInfo

STRUCTURAL = ("name", "rules", "objectives", "edges", "links")
"""Fields that are filled from statements of their own, never from `name = value`."""


@dataclass(frozen=True)
class FieldShape:
    """One field of a schema."""

    name: str
    written: str
    description: str
    required: bool
    block: type[Ir] | None = None
    many: bool = False
    reference: type[Ir] | None = None
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
    fields = (_field(model, name) for name in model.model_fields if name not in STRUCTURAL)
    return Shape(model, {f.written: f for f in fields})


def _field(model: type[Ir], name: str) -> FieldShape:
    info = model.model_fields[name]
    bare, many, validated = _strip(info.annotation)
    validated = validated or any(isinstance(m, BeforeValidator) for m in info.metadata)
    inner = _model_of(bare) if isinstance(bare, type) and issubclass(bare, BaseModel) and not validated else None
    reference = inner if inner is not None and hasattr(inner, "KIND") else None
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return FieldShape(
        name=name,
        written=name.rstrip("_"),
        description=info.description or "",
        required=info.is_required(),
        block=inner if reference is None else None,
        many=many,
        reference=reference,
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


def _holds_condition(annotation: Any) -> bool:
    return annotation is Compare or any(_holds_condition(a) for a in get_args(annotation))


def _deep_metadata(annotation: Any) -> tuple[Any, ...]:
    own = tuple(getattr(annotation, "__metadata__", ()))
    return own + tuple(m for inner in get_args(annotation) for m in _deep_metadata(inner))
