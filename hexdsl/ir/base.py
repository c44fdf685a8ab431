"""The base of every noun that travels the road: frozen, strict, and written to JSON with its units."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from hexdsl.ir.quantity import Unit

Rounded = Annotated[float, PlainSerializer(lambda x: float(f"{x:.6g}"), return_type=float)]
"""A float written with six significant digits, so that digests do not hang on the last bit."""


class Ir(BaseModel):
    """A frozen record.  Fields of a dimension carry their unit in JSON: `memory` is written `memory_bytes`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def with_(self, **changes: Any) -> Self:
        """This record with some fields changed, validated again (`model_copy` does not validate)."""
        return type(self).model_validate({**{n: getattr(self, n) for n in type(self).model_fields}, **changes})

    def canonical(self) -> str:
        """The JSON text from which the digest is made: sorted keys, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """Twelve hexadecimal digits that change when anything in the record changes."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:12]

    @model_validator(mode="before")
    @classmethod
    def _from_wire(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        plain = {wire: name for name, wire in wire_names(cls).items()}
        if hasattr(cls, "KIND"):
            data = {key: value for key, value in data.items() if key != "kind"}
        return {plain.get(key, key): value for key, value in data.items()}

    @model_serializer(mode="wrap")
    def _to_wire(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        wire = wire_names(type(self))
        fields = {wire.get(key, key): value for key, value in handler(self).items()}
        kind = getattr(type(self), "KIND", None)
        return fields if kind is None else {"kind": kind, **fields}


@cache
def wire_names(model: type[Ir]) -> dict[str, str]:
    """Field name to JSON name where they differ: fields with a unit, and names that Python keeps for itself."""
    found = ((name, field_unit(model, name)) for name in model.model_fields)
    with_units = {name: f"{name}_{unit.suffix}" for name, unit in found if unit and unit.suffix}
    return with_units | {name: name[:-1] for name in model.model_fields if name.endswith("_")}


def field_unit(model: type[BaseModel], name: str) -> Unit | None:
    """The unit of a field, or None where it has no dimension."""
    field = model.model_fields[name]
    return next((m for m in (*field.metadata, *_metadata(field.annotation)) if isinstance(m, Unit)), None)


def _metadata(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for inner in get_args(annotation):
        yield from _metadata(inner)
