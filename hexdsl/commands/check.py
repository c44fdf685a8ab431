"""`hexc check` and `hexc fmt`: what needs no plan.  Nothing here imports the solver."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from pathlib import Path

from hexdsl.commands.base import Output, as_json, spec_of
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.spec import Spec
from hexdsl.lang.diagnostics import render, to_json
from hexdsl.lang.format import format_text
from hexdsl.lang.source import Source, decode, read_source


def check_command(args: argparse.Namespace) -> Output:
    """Reads a spec and says what is wrong with it, or what it holds."""
    loaded = spec_of(args, args.spec)
    if args.json:
        return Output(data=as_json(to_json(loaded.diagnostics, loaded.sources) | {"digest": loaded.spec.digest()}))
    warnings = render(loaded.diagnostics, loaded.sources, color=args.color)
    return Output(talk="\n\n".join(t for t in (warnings, f"{args.spec}: {contents(loaded.spec)}") if t))


def contents(spec: Spec) -> str:
    """What a spec declares, in one line."""
    parts = [f"{type(w).KIND} {w.name}" for w in spec.workflows]
    for title, records in (
        ("cluster", spec.clusters),
        ("model", spec.models),
        ("workload", spec.workloads),
        ("gpu", spec.gpus),
    ):
        if records:
            parts.append(f"{len(records)} {title}{'s' * (len(records) > 1)}")
    return "all well (" + (", ".join(parts) or "no blocks") + ")"


def fmt_command(args: argparse.Namespace) -> Output:
    """Formats files in place; with `--check` or `--diff` only says what would change."""
    changed: list[str] = []
    shown: list[str] = []
    for name in args.files:
        source = (
            Source("<stdin>", decode(sys.stdin.buffer.read(), "<stdin>"))
            if name == "-"
            else read_source(Path(name), name)
        )
        text = format_text(source)
        if name == "-" and not (args.check or args.diff):
            shown.append(text)
        elif text != source.text:
            changed.append(name)
            shown += [_changes(source, text)] if args.diff else []
            if not (args.check or args.diff):
                _replace(Path(name), text)
    code = int(bool(changed) and (args.check or args.diff))
    if args.json:
        return Output(data=as_json({"format_version": "1.0", "changed": changed}), code=code)
    verb = "would change" if args.check or args.diff else "formatted"
    return Output(data="".join(shown), talk="\n".join(f"{verb}: {n}" for n in changed), code=code)


def _changes(source: Source, text: str) -> str:
    lines = difflib.unified_diff(
        source.text.splitlines(keepends=True), text.splitlines(keepends=True), source.name, source.name + " (formatted)"
    )
    return "".join(lines)


def _replace(path: Path, text: str) -> None:
    """Writes a file by renaming, so that a killed process leaves the old or the new text and nothing between."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.chmod(path.stat().st_mode)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError([Diagnostic("E003", f"`{path}` cannot be written: {error.strerror}")]) from None
