"""Values that a field may receive before its type has judged them: bare words and calls."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError


class Word(str):
    """A bare word that names nothing in scope: `bf16`, `grpo`, `auto`.  The field says whether it knows it."""

    __slots__ = ()


@dataclass(frozen=True)
class Call:
    """`poisson(12req/s)` or `lognormal(median = 900, p95 = 4000)`: a word with arguments."""

    name: str
    args: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to a misspelt one, or None where nothing is close."""
    close = difflib.get_close_matches(word, sorted(known), 1, 0.6)
    return close[0] if close else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """One sentence of help: the nearest known word, or the whole list."""
    names = sorted(known)
    close = nearest(word, names)
    return f"did you mean `{close}`?" if close else "one of " + ", ".join(f"`{n}`" for n in names)


def choice(*models: type[BaseModel], bare: str = "") -> BeforeValidator:
    """Lets a field take `word` or `word(arguments)`, each word being one model with that `kind`.

    Positional arguments fill the model's fields in order.  With `bare`, any other value becomes the first
    field of the model of that kind (a length written `512tok` is `fixed(512tok)`).  Write it last in an
    `Annotated` type, after the discriminator.
    """
    kinds = {kind: model for model in models for kind in kind_words(model)}

    def read(value: Any) -> Any:
        if isinstance(value, Word):
            value = Call(str(value))
        if isinstance(value, Call):
            return _fields_of_call(value, kinds)
        if isinstance(value, (BaseModel, dict)) or not bare:
            return value
        return _fields_of_call(Call(bare, (value,)), kinds)

    return BeforeValidator(read)


def kind_words(model: type[BaseModel]) -> tuple[str, ...]:
    """The words by which a call names this model."""
    return get_args(model.model_fields["kind"].annotation)


def _fields_of_call(call: Call, kinds: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    model = kinds.get(call.name)
    if model is None:
        context = {"name": call.name, "help": suggestion(call.name, kinds)}
        raise PydanticCustomError("word", "`{name}` is not known here", context)
    names = [n for n in model.model_fields if n != "kind"]
    if len(call.args) > len(names):
        text = f"`{call.name}` takes " + (", ".join(f"`{n}`" for n in names) or "no arguments")
        raise PydanticCustomError("word", "`{name}` has too many arguments", {"name": call.name, "help": text})
    unknown = next((n for n in call.named if n not in names), None)
    if unknown:
        context = {"name": call.name, "word": unknown, "help": suggestion(unknown, names)}
        raise PydanticCustomError("word", "`{name}` has no argument `{word}`", context)
    return {"kind": call.name, **dict(zip(names, call.args, strict=False)), **call.named}
