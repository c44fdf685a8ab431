"""Files that blocks name: a model's config.json, traces, inventories, profiles.  They are read or digested here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from hexdsl.ir.diagnostic import Diagnostic, Label, Span
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.profile import Profile, read_profile
from hexdsl.ir.values import Call
from hexdsl.lang.draft import Draft
from hexdsl.lang.evaluate import Place
from hexdsl.lang.scope import Entry, Files, Module

FILE_FIELDS = ("used", "data")
"""Fields whose files the compiler reads later: they must exist, and the spec carries their digest."""


Record = Callable[[Entry], Any]
"""The record of a named block."""


def read_inputs(draft: Draft, module: Module, files: Files, record: Record) -> None:
    """Fills a draft from the files that it names; a path is relative to the file that it was written in."""
    if draft.shape.model is Model and ("config" in draft.values or "config" in draft.bad):
        _config(draft, module, files)
    if draft.shape.model is Gpu and "profile" in draft.values:
        _profile(draft, module, files)
    if "trace" in draft.shape.fields and "trace" in draft.values:
        _trace(draft, module, files)
    if "peers" in draft.shape.fields and "peers" in draft.values:
        _peers(draft, module, files, record)
    for name in FILE_FIELDS:
        if name in draft.shape.fields and name in draft.values:
            _file(draft, name, module, files)


def _owner(draft: Draft, name: str, module: Module, files: Files) -> Module:
    return files.modules.get(draft.place.parts[name].span.file, module)


def _config(draft: Draft, module: Module, files: Files) -> None:
    """A Hugging Face config.json gives the fields that the block leaves out."""
    usable = isinstance(draft.values.get("config"), str)
    found = _fields_of_config(draft, module, files) if usable else None
    if found is None:
        # What the file would have given is not missing.
        draft.bad |= {f.name for f in draft.shape.fields.values()} - draft.values.keys()
        if usable:
            draft.put_bad("config")
        return
    place = draft.place.parts["config"]
    for name, value in found.items():
        if name not in draft.values and name not in draft.bad:
            draft.put(name, value, place)


def _fields_of_config(draft: Draft, module: Module, files: Files) -> dict[str, object] | None:
    span = draft.place.parts["config"].span
    located = files.locate(_owner(draft, "config", module, files), draft.values["config"], span)
    data = files.small(*located, span) if located else None
    if located is None or data is None:
        return None
    from hexdsl.lang.hf import read_config  # few specs name a config.json, and `check` must start quickly

    name = draft.values["config"] = located[1]
    try:
        return read_config(data.decode("utf-8"))
    except UnicodeDecodeError:
        message = f"`{name}` is not UTF-8 text"
    except ValueError as error:
        message = f"`{name}`: {error}"
    files.report.error("E140", message, span, "name the config.json of a decoder model")
    return None


def _profile(draft: Draft, module: Module, files: Files) -> None:
    """The record of a measured profile takes the place of its file's name."""
    text = _path(draft.values["profile"])
    if text is None:
        return
    span = draft.place.parts["profile"].span
    located = files.locate(_owner(draft, "profile", module, files), text, span)
    data = files.small(*located, span) if located else None
    found = _read_profile(data, located[1], span, files) if located and data is not None else None
    if found is None:
        draft.put_bad("profile")
        return
    draft.values["profile"] = found


def _read_profile(data: bytes, name: str, span: Span, files: Files) -> Profile | None:
    try:
        return read_profile(data)
    except ValueError as error:
        files.report.error("E141", f"`{name}`: {error}", span, "`hexc profile` writes such a file")
        return None


def _trace(draft: Draft, module: Module, files: Files) -> None:
    """A trace gives the arrivals and lengths that the block leaves out; in its own place its digest stays."""
    text, place = _path(draft.values["trace"]), draft.place.parts["trace"]
    if text is None:
        return
    from hexdsl.lang.traces import LARGEST, fill  # few specs name a trace, and `check` must start quickly

    located = files.locate(_owner(draft, "trace", module, files), text, place.span)
    data = files.small(*located, place.span, LARGEST) if located else None
    if located is None or data is None:
        draft.put_bad("trace")
        return
    draft.values["trace"] = {"path": located[1], "sha256": hashlib.sha256(data).hexdigest()}
    draft.place.parts["trace"] = Place(place.span)
    fill(draft, data, located[1], place, files.report)


def _peers(draft: Draft, module: Module, files: Files, record: Record) -> None:
    """The rows of a table of peers take the place of its file's name, with the GPUs that they name."""
    text, place = _path(draft.values["peers"]), draft.place.parts["peers"]
    if text is None:
        return
    from hexdsl.lang.peers import read_peers  # few specs have peers, and `check` must start quickly

    owner = _owner(draft, "peers", module, files)
    located = files.locate(owner, text, place.span)
    data = files.small(*located, place.span) if located else None
    if located is None or data is None:
        draft.put_bad("peers")
        return
    shipped = files.catalog("gpus.hex").entries
    entries = {**shipped, **dict(owner.declared())}
    own = (name for name, entry in owner.entries.items() if entry.kind == "gpu")
    digest = hashlib.sha256(data).hexdigest()
    found = read_peers(data, located[1], digest, lambda name: _gpu(entries.get(name), record), (*own, *shipped))
    if isinstance(found, list):
        first, *more = found
        notes = tuple(f"{mistake.message}: {mistake.help}" for mistake in more)
        files.report.diagnostics.append(
            Diagnostic("E145", first.message, (Label(place.span),), first.help, notes=notes)
        )
        draft.put_bad("peers")
        return
    draft.values["peers"] = found
    draft.place.parts["peers"] = Place(place.span)


def _gpu(entry: Entry | None, record: Record) -> Gpu | None:
    found = record(entry) if entry is not None and entry.kind == "gpu" else None
    return found if isinstance(found, Gpu) else None


def _file(draft: Draft, name: str, module: Module, files: Files) -> None:
    text = _path(draft.values[name])
    if text is None:
        return
    place = draft.place.parts[name]
    located = files.locate(_owner(draft, name, module, files), text, place.span)
    digest = files.digest(*located, place.span) if located else None
    if located is None or digest is None:
        draft.put_bad(name)
        return
    draft.values[name] = {"path": located[1], "sha256": digest}
    draft.place.parts[name] = Place(place.span)


def _path(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, Call) and value.name == "file" and len(value.args) == 1 and isinstance(value.args[0], str):
        return value.args[0]
    return None
