"""The base of every noun that travels the road: frozen, strict, and written to JSON with its units."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from hexdsl.ir.quantity import Unit


def six_digits(x: float) -> float:
    """A float with the six significant digits that are written of it."""
    return float(f"{x:.6g}")


Rounded = Annotated[float, PlainSerializer(six_digits, return_type=float)]
"""A float written with six significant digits, so that digests do not hang on the last bit."""


class Ir(BaseModel):
    """A frozen record.  Fields of a dimension carry their unit in JSON: `memory` is written `memory_bytes`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    ASIDE: ClassVar[tuple[str, ...]] = ()
    """Fields that tell how and where something was written: they are no part of the meaning."""

    ANY_ORDER: ClassVar[tuple[str, ...]] = ("rules",)
    """Tuple fields whose order means nothing."""

    def with_(self, **changes: Any) -> Self:
        """This record with some fields changed, validated again (`model_copy` does not validate)."""
        return type(self).model_validate({**{n: getattr(self, n) for n in type(self).model_fields}, **changes})

    def canonical(self) -> str:
        """The JSON text from which the digest is made: the meaning alone, sorted, no spaces."""
        return _canonical(self.model_dump(mode="json", context=MEANING))

    def digest(self) -> str:
        """Twelve hexadecimal digits that change when the meaning of anything in the record changes."""
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
    def _to_wire(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        written = handler(self)
        if info.context is MEANING:
            written = {name: self._meant(name, value) for name, value in written.items() if name not in self.ASIDE}
        wire = wire_names(type(self))
        fields = {wire.get(key, key): value for key, value in written.items()}
        kind = getattr(type(self), "KIND", None)
        return fields if kind is None else {"kind": kind, **fields}

    def _meant(self, name: str, value: Any) -> Any:
        return sorted(value, key=_canonical) if name in self.ANY_ORDER else value


MEANING = {"of": "meaning"}
"""The context in which records are written without what they set aside."""


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


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
