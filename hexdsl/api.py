"""The Python API: load, check, plan, compile.  Each raises `hexdsl.ir.diagnostic.SpecError` for the user's errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hexdsl.ir.diagnostic import Diagnostic, SpecError, UsageError
from hexdsl.lang.machine import read_json
from hexdsl.lang.resolve import Loaded, Options, load_file, load_source
from hexdsl.lang.source import Source, decode

if TYPE_CHECKING:
    from hexdsl.ir.launch import Launch
    from hexdsl.ir.plan import Plan
    from hexdsl.passes.base import After


def load(
    spec: str | Path,
    defines: Mapping[str, str] | None = None,
    params: Sequence[str | Path] = (),
    allow: Sequence[str | Path] = (),
) -> Loaded:
    """Reads and checks a spec file.  `defines` are parameters as text, as with `-D`."""
    options = Options(tuple((defines or {}).items()), tuple(map(Path, params)), tuple(map(Path, allow)))
    return load_file(Path(spec), options)


def check(spec: str | Path, defines: Mapping[str, str] | None = None) -> tuple[Diagnostic, ...]:
    """Every message about a spec; empty where all is well."""
    try:
        return load(spec, defines).diagnostics
    except SpecError as error:
        return error.diagnostics


def load_text(text: str, name: str = "spec.hex", options: Options | None = None) -> Loaded:
    """Checks a spec given as text; imports are relative to the current folder."""
    return load_source(Source(name, decode(text.encode("utf-8", "surrogatepass"), name)), None, options or Options())


def load_json(text: str, name: str = "spec.json", folder: Path | None = None) -> Loaded:
    """Checks a machine-made spec in the JSON form of `hexdsl.ir.spec.Spec` (see `hexc schema --json`).

    Relative paths in it are below `folder`, by default the current one.
    """
    return Loaded(read_json(text, name), {}, (), folder or Path.cwd())


def plan(loaded: Loaded, workflow: str | None = None, after: After = lambda *_: None) -> Plan:
    """Plans one workflow of a spec; `workflow` names it where there are several.  Raises NoPlanError."""
    from hexdsl.pipeline import plan_spec

    return plan_spec(loaded.spec, workflow, after)


def compile(
    loaded: Loaded, out: str | Path, workflow: str | None = None, engine: str | None = None, force: bool = False,
    after: After = lambda *_: None,
) -> tuple[Plan, Launch]:  # fmt: skip
    """Plans and writes a bundle to the folder `out`, all or nothing."""
    from hexdsl.emit import emit

    made = plan(loaded, workflow, after)
    return made, emit(made, Path(out), loaded.folder, engine, force)


__all__ = ["Loaded", "SpecError", "UsageError", "check", "compile", "load", "load_json", "load_text", "plan"]
