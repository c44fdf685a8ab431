"""What commands share: their output, the spec that they were given, and how errors are said."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hexdsl.ir.diagnostic import Diagnostic, SpecError
    from hexdsl.lang.resolve import Loaded
    from hexdsl.lang.source import Source


@dataclass(frozen=True)
class Output:
    """What a command says: data for stdout, talk for stderr, and the exit code."""

    data: str = ""
    talk: str = ""
    code: int = 0


def as_json(value: Any) -> str:
    """JSON as hexc prints it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def spec_of(args: argparse.Namespace, path: str) -> Loaded:
    """The checked spec that a command was given.  Raises SpecError."""
    from hexdsl.ir.diagnostic import Diagnostic, UsageError
    from hexdsl.lang.resolve import Options, load_file

    if args.from_json:
        return _machine_made(args, Path(path))
    defines = []
    for text in args.defines:
        name, found, value = text.partition("=")
        if not found or not name.strip() or not value.strip():
            raise UsageError([Diagnostic("E031", f"`-D {text}` is not NAME=VALUE", (), "write `-D rate=20req/s`")])
        defines.append((name.strip(), value.strip()))
    options = Options(tuple(defines), tuple(map(Path, args.params)), tuple(map(Path, args.allow_path)))
    return load_file(Path(path), options)


def _machine_made(args: argparse.Namespace, path: Path) -> Loaded:
    from hexdsl.api import load_json
    from hexdsl.ir.diagnostic import Diagnostic, UsageError
    from hexdsl.lang.source import read_source

    if args.defines or args.params:
        message = "a machine-made spec has no parameters"
        raise UsageError([Diagnostic("E031", message, (), "leave out `-D` and `--params`")])
    return load_json(read_source(path, str(path)).text, str(path), path.resolve().parent)


def failed(error: SpecError, args: argparse.Namespace) -> Output:
    """The output and exit code of a user's error."""
    from hexdsl.ir.diagnostic import LimitError, NoPlanError, UsageError

    codes = {UsageError: 2, NoPlanError: 3, LimitError: 4}
    code = next((c for kind, c in codes.items() if isinstance(error, kind)), 1)
    return said(error.diagnostics, sources_of(error, args), args, code)


def sources_of(error: SpecError, args: argparse.Namespace) -> Mapping[str, Source]:
    """The sources that an error's labels point into."""
    known: Mapping[str, Source] = getattr(error, "sources", None) or getattr(args, "sources", {})
    return known


def write_file(path: Path, text: str) -> None:
    """Writes by renaming, so that a killed process leaves the old or the new text and nothing between.

    Links are followed, modes kept, and what is not a plain file (a pipe, `/dev/stdout`) is written in place.
    Raises OSError.
    """
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        if path.exists():
            path.open("a").close()  # renaming would get around a file that is write-protected
            beside.chmod(path.stat().st_mode)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def save_file(path: Path, text: str) -> None:
    """Writes what a command was asked to write.  Raises UsageError (P010) where that is not possible."""
    from hexdsl.ir.diagnostic import Diagnostic, UsageError

    try:
        write_file(path, text)
    except OSError as error:
        raise UsageError([Diagnostic("P010", f"`{path}` cannot be written: {error.strerror}")]) from None


def said(
    diagnostics: tuple[Diagnostic, ...], sources: Mapping[str, Source], args: argparse.Namespace, code: int
) -> Output:
    """Diagnostics as text on stderr, or as JSON on stdout."""
    from hexdsl.lang.diagnostics import to_json

    if args.json:
        return Output(data=as_json(to_json(diagnostics, sources)), code=code)
    return Output(talk=_listed(diagnostics, sources, args.color), code=code)


MOST = 50
"""Messages that are shown as text; who wants more than these gets them all from `--json`."""


def _listed(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source], color: bool) -> str:
    """The first messages as text, and a line that counts them where there are several errors."""
    from hexdsl.lang.diagnostics import ordered, render

    worst = sorted(ordered(diagnostics), key=lambda d: d.severity != "error")
    text = render(worst[:MOST], sources, color=color)
    errors = sum(d.severity == "error" for d in diagnostics)
    tail = [f"{errors} errors"] if errors > 1 else []
    if len(diagnostics) > MOST:
        tail.append(f"the first {MOST} messages of {len(diagnostics)} are shown; `--json` has them all")
    return f"{text}\n\n{'; '.join(tail)}" if tail else text


def warnings(loaded: Loaded, args: argparse.Namespace) -> str:
    """The warnings of a spec as text."""
    return _listed(loaded.diagnostics, loaded.sources, args.color) if loaded.diagnostics else ""
