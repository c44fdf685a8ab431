"""The reference of the language, made from the schemas: every field with its unit, default and meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from hexdsl.ir.base import Ir, field_unit
from hexdsl.ir.quantity import COUNT, REAL, SHARE, WHOLE, Unit
from hexdsl.ir.spec import KINDS, Spec
from hexdsl.ir.spec.common import IDENTIFIER
from hexdsl.ir.spec.target import Target
from hexdsl.ir.values import kind_words
from hexdsl.lang.complaints import header
from hexdsl.lang.shape import FieldShape, shape_of
from hexdsl.lang.units import show

DOCUMENTED: dict[str, type[Ir]] = {**KINDS, "target": Target}


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
    if metrics := shape_of(model).metrics:
        yield "Rules and objectives may name:"
        yield ""
        yield "| name | unit | meaning |"
        yield "|---|---|---|"
        for m in metrics:
            form = f"p95({m.name})" if m.stats else f"{m.name}({m.parts[0]})" if m.parts else m.name
            chosen = " (chosen by the compiler)" if m.decision else ""
            yield f"| `{form}` | {_measure(m.unit)} | {m.description}{chosen} |"
        yield ""
    yield from _sub_blocks(model, "")


def _table(model: type[Ir]) -> Iterator[str]:
    fields = [f for f in shape_of(model).fields.values() if f.block is None]
    if not fields:
        return
    yield "| field | value | default | meaning |"
    yield "|---|---|---|---|"
    for field in fields:
        cells = (_value(field, model), _default(field, model), field.description)
        yield f"| `{field.written}` | {' | '.join(_cell(c) for c in cells)} |"
    yield ""


def _sub_blocks(model: type[Ir], within: str) -> Iterator[str]:
    for field in shape_of(model).fields.values():
        if field.block is None or field.block is Target:
            continue
        place = f" in `{within}`" if within else ""
        yield f"### `{header(field)} {{ ... }}`{place}"
        yield ""
        yield field.description[:1].upper() + field.description[1:] + "." + _takes(field.block)
        yield ""
        yield from _table(field.block)
        yield from _sub_blocks(field.block, field.written)
    for name in ("links", "edges"):
        if shape_of(model).takes(name):
            yield "### `a <-> b { ... }`" if name == "links" else "### `a -> b { ... }`"
            yield ""
            yield _first_line(shape_of(model).member(name))
            yield ""
            yield from _table(shape_of(model).member(name))


def _takes(model: type[Ir]) -> str:
    names = get_args(model.model_fields["name"].annotation) if "name" in model.model_fields else ()
    named = f" NAME is {_words(names)}." if names else ""
    return named + (" Its own rules may stand in it." if shape_of(model).takes("rules") else "")


def _value(field: FieldShape, model: type[Ir]) -> str:
    """What may stand behind `name =`."""
    if field.reference is not None:
        return f"a `{field.kinds[0]}`"
    if field.condition:
        return "a condition"
    info = model.model_fields[field.name]
    return ", or ".join(_forms(info.annotation, tuple(info.metadata)))


def _forms(annotation: Any, metadata: tuple[Any, ...] = ()) -> tuple[str, ...]:
    """The forms of a type's values, words first and each once."""
    unit = next((m for m in metadata if isinstance(m, Unit)), None)
    if unit is not None:
        return (_measure(unit),)
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _forms(arguments[0], annotation.__metadata__)
    if get_origin(annotation) is Literal:
        return (_words(arguments),)
    if get_origin(annotation) is tuple:
        return (f"a list, each item {_forms(arguments[0])[0]}",)
    if get_origin(annotation) is dict:
        return (f"`{{ name = ... }}`, each {' or '.join(_forms(arguments[1]))}",)
    if arguments:
        return _alternatives(arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _record(annotation)
    return ("a name" if any(getattr(m, "pattern", None) == IDENTIFIER for m in metadata) else PLAIN_FORMS[annotation],)


PLAIN_FORMS = {str: "a string", bool: "`true` or `false`", int: "a whole number", float: "a number"}


def _alternatives(members: Iterable[Any]) -> tuple[str, ...]:
    """The forms of a union; those that are one word or call are listed together."""
    forms = [form for member in members if member is not type(None) for form in _forms(member)]
    listed = [form for form in forms if form.startswith("`")]
    return tuple(filter(None, (", ".join(listed), *(form for form in forms if form not in listed))))


def _record(model: type[BaseModel]) -> tuple[str, ...]:
    """How a record is written: in a form of its own, or as words with their arguments."""
    if form := getattr(model, "FORM", ""):
        return (form,)
    if hasattr(model, "READ"):
        return ()
    words = kind_words(model)
    arguments = ", ".join(_argument(model, name) for name in model.model_fields if name != "kind")
    if not arguments:
        return (_words(words),)
    if len(words) == 1:
        return (f"`{words[0]}({arguments})`",)
    return (f"{_words(words)}, each also as `{words[0]}({arguments})`",)


def _argument(model: type[BaseModel], name: str) -> str:
    info, unit = model.model_fields[name], field_unit(model, name)
    if not info.is_required() and info.default is not None:
        return f"{name} = {_shown(info.default, unit)}"
    return f"{name} = {unit.example.partition(' or ')[0] if unit else '...'}"


def _measure(unit: Unit) -> str:
    """The words of a unit, with examples where they show how it is written."""
    if unit in (COUNT, WHOLE, REAL):
        return unit.words
    return f"{unit.words}, such as {' or '.join(f'`{example}`' for example in unit.example.split(' or '))}"


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _default(field: FieldShape, model: type[Ir]) -> str:
    info = model.model_fields[field.name]
    extra = info.json_schema_extra
    if field.required or info.default is PydanticUndefined:
        return "required"
    if info.default is None or info.default in ((), {}):
        return "none"
    if isinstance(extra, dict) and ("example" in extra or "pin" in extra):
        return f"`{extra.get('example') or str(extra['pin']).partition(' = ')[2]}`"
    shown = _shown(info.default, field.unit)
    return f'`"{shown}"`' if field.prose else f"`{shown}`"


def _shown(value: Any, unit: Unit | None) -> str:
    """A default as a spec would write it."""
    if isinstance(value, Ir):
        return str(getattr(value, "kind", "{ }"))
    if isinstance(value, bool):
        return str(value).lower()
    if unit is SHARE and isinstance(value, float):
        return f"{100 * value:g}%"
    if unit is not None and isinstance(value, (int, float)):
        return show(value, unit.dims[-1])
    return str(value)


def _first_line(model: type[Ir]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
