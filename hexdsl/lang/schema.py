"""The reference of the language, made from the schemas: every field with its unit, default and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from hexdsl.ir.base import Ir
from hexdsl.ir.spec import KINDS, Spec
from hexdsl.ir.spec.target import Target
from hexdsl.lang.shape import FieldShape, shape_of
from hexdsl.lang.units import show

DOCUMENTED: dict[str, type[Ir]] = KINDS | {"target": Target}


def schema_markdown(kind: str | None = None) -> str:
    """The reference of one kind, or of all."""
    chosen = {kind: DOCUMENTED[kind]} if kind else DOCUMENTED
    return "\n".join(line for name, model in chosen.items() for line in _kind(name, model))


def schema_json(kind: str | None = None) -> dict[str, Any]:
    """JSON Schema of the machine-made form of a spec (`--from-json`), or of one kind of block."""
    return {"format_version": "1.0", kind or "spec": (DOCUMENTED[kind] if kind else Spec).model_json_schema()}


def _kind(name: str, model: type[Ir]) -> Iterator[str]:
    yield f"## `{name}`"
    yield ""
    yield _first_line(model)
    yield ""
    yield from _table(model)
    metrics = shape_of(model).metrics
    if metrics:
        yield "Rules and objectives may name:"
        yield ""
        yield "| name | unit | meaning |"
        yield "|---|---|---|"
        for m in metrics:
            form = f"p95({m.name})" if m.stats else f"{m.name}({m.parts[0]})" if m.parts else m.name
            chosen = " (chosen by the compiler)" if m.decision else ""
            yield f"| `{form}` | {m.unit.example} | {m.description}{chosen} |"
        yield ""
    yield from _sub_blocks(model)


def _table(model: type[Ir]) -> Iterator[str]:
    fields = [f for f in shape_of(model).fields.values() if f.block is None]
    if not fields:
        return
    yield "| field | value | default | meaning |"
    yield "|---|---|---|---|"
    for field in fields:
        yield f"| `{field.written}` | {_value(field, model)} | {_default(field, model)} | {_cell(field.description)} |"
    yield ""


def _sub_blocks(model: type[Ir]) -> Iterator[str]:
    for field in shape_of(model).fields.values():
        if field.block is None or field.block is Target:
            continue
        named = " NAME" if "name" in field.block.model_fields else ""
        yield f"### `{field.written}{named} {{ ... }}`"
        yield ""
        yield field.description[:1].upper() + field.description[1:] + "."
        yield ""
        yield from _table(field.block)
        yield from _sub_blocks(field.block)
    for name in ("links", "edges"):
        if shape_of(model).takes(name):
            yield "### `a <-> b { ... }`" if name == "links" else "### `a -> b { ... }`"
            yield ""
            yield _first_line(shape_of(model).member(name))
            yield ""
            yield from _table(shape_of(model).member(name))


def _value(field: FieldShape, model: type[Ir]) -> str:
    if field.reference is not None:
        return f"a `{getattr(field.reference, 'KIND', '')}`"
    if field.unit is not None:
        return f"{field.unit.words}, such as `{field.unit.example}`"
    return _cell(_words(model.model_fields[field.name].annotation))


def _words(annotation: Any) -> str:
    from typing import get_args, get_origin

    args = [a for a in get_args(annotation) if a is not type(None)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return _words(kind.annotation) if kind else "a value"
    if str(get_origin(annotation)) == "typing.Literal":
        return ", ".join(f"`{a}`" for a in args)
    if annotation in (str, bool, int, float):
        return {str: "a string", bool: "`true` or `false`", int: "a whole number", float: "a number"}[annotation]
    if get_origin(annotation) is tuple:
        return "a list: " + _words(args[0])
    if get_origin(annotation) is dict:
        return "`{ name = value }`"
    if getattr(annotation, "__metadata__", None):
        return _words(args[0])
    return ", ".join(dict.fromkeys(_words(a) for a in args if not _is_metadata(a))) or "a condition"


def _is_metadata(value: Any) -> bool:
    return not (isinstance(value, type) or hasattr(value, "__origin__") or hasattr(value, "__args__"))


def _default(field: FieldShape, model: type[Ir]) -> str:
    default = model.model_fields[field.name].default
    extra = model.model_fields[field.name].json_schema_extra
    if field.required or default is PydanticUndefined:
        return "required"
    if isinstance(extra, dict) and ("example" in extra or "pin" in extra):
        return f"`{extra.get('example') or str(extra['pin']).partition(' = ')[2]}`"
    if default is None or default in ((), {}):
        return ""
    if isinstance(default, Ir):
        return f"`{getattr(default, 'kind', 'as below')}`"
    if field.unit is not None and isinstance(default, float):
        return f"`{show(default, field.unit.dims[0])}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _first_line(model: type[Ir]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
