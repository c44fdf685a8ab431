"""Files that blocks name: a model's config.json, traces, inventories, profiles.  They are read or digested here."""

from __future__ import annotations

from typing import Any

from hexdsl.ir.spec.model import Model
from hexdsl.ir.values import Call
from hexdsl.lang.bind import Draft
from hexdsl.lang.evaluate import Place
from hexdsl.lang.hf import read_config
from hexdsl.lang.scope import Files, Module

FILE_FIELDS = ("trace", "used", "peers", "data")
"""Fields whose files the compiler reads later: they must exist, and the spec carries their digest."""


def read_inputs(draft: Draft, module: Module, files: Files) -> None:
    """Fills a draft from the files that it names."""
    if draft.shape.model is Model and isinstance(draft.values.get("config"), str):
        _config(draft, module, files)
    for name in FILE_FIELDS:
        if name in draft.shape.fields and name in draft.values and draft.place.parts[name].span.file == module.source.name:
            _file(draft, name, module, files)


def _config(draft: Draft, module: Module, files: Files) -> None:
    """A Hugging Face config.json gives the fields that the block leaves out."""
    span = draft.place.parts["config"].span
    owner = files.modules.get(span.file, module)
    place = files.locate(owner, draft.values["config"], span)
    if place is None or files.digest(*place, span) is None:
        draft.bad.add("config")
        return
    try:
        found = read_config(place[0].read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        files.report.error("E140", f"`{place[1]}` is not UTF-8 text", span, "give a decoder model's config.json")
        draft.bad.add("config")
        return
    except (ValueError, OSError) as error:
        files.report.error("E140", f"`{place[1]}`: {error}", span, "give a decoder model's config.json")
        draft.bad.add("config")
        return
    draft.values["config"] = place[1]
    for name, value in found.items():
        if name not in draft.values and name not in draft.bad:
            draft.put(name, value, Place(span))


def _file(draft: Draft, name: str, module: Module, files: Files) -> None:
    span = draft.place.parts[name].span
    text = _path(draft.values[name])
    place = files.locate(module, text, span) if text is not None else None
    digest = files.digest(*place, span) if place else None
    if text is None:
        return
    if place is None or digest is None:
        draft.bad.add(name)
        return
    draft.values[name] = {"path": place[1], "sha256": digest}


def _path(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, Call) and value.name == "file" and len(value.args) == 1 and isinstance(value.args[0], str):
        return value.args[0]
    return None
