"""`hexc check` and `hexc fmt`: what needs no plan.  Nothing here imports the solver."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hexdsl.commands.base import Output, as_json, spec_of, warnings, write_file
from hexdsl.ir.diagnostic import Diagnostic, SpecError, UsageError
from hexdsl.ir.spec import Spec
from hexdsl.lang.resolve import Rejected
from hexdsl.lang.source import MAX_BYTES, Source, decode, read_source

STDIN = "<stdin>"
"""What messages call the standard input."""


def check_command(args: argparse.Namespace) -> Output:
    """Reads a spec and says what is wrong with it, or what it holds."""
    loaded = spec_of(args, args.spec)
    if args.json:
        from hexdsl.lang.diagnostics import to_json

        return Output(data=as_json(to_json(loaded.diagnostics, loaded.sources) | {"digest": loaded.spec.digest()}))
    found = warnings(loaded, args)
    return Output(talk="\n\n".join(t for t in (found, f"{args.spec}: {contents(loaded.spec)}") if t))


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
    """Formats files; with `--check` or `--diff` only says what would change.  After an error nothing is written."""
    pairs = _formatted(args.files)
    changed = [source.name for source, text in pairs if source.text != text]
    shown = ""
    if args.diff:
        shown = "".join(_changes(source, text) for source, text in pairs)
    elif not args.check:
        shown = "".join(text for source, text in pairs if source.name == STDIN)
        for source, text in pairs:
            _rewrite(source, text)
    code = int(bool(changed) and (args.check or args.diff))
    if args.json:
        return Output(data=as_json({"format_version": "1.0", "changed": changed}), code=code)
    verb = "would change" if args.check or args.diff else "formatted"
    said = changed if args.check or args.diff else [n for n in changed if n != STDIN]
    return Output(data=shown, talk="\n".join(f"{verb}: {n}" for n in said), code=code)


def _formatted(names: Sequence[str]) -> list[tuple[Source, str]]:
    """Every file with its formatted text.  Raises Rejected with the messages about all of them, or UsageError."""
    from hexdsl.lang.format import format_text  # `check`, in the same module, must start quickly

    pairs: list[tuple[Source, str]] = []
    bad: list[Diagnostic] = []
    sources: dict[str, Source] = {}
    for name in names:
        source = _stdin() if name == "-" else read_source(Path(name), name)
        sources[source.name] = source
        try:
            pairs.append((source, format_text(source)))
        except SpecError as error:
            bad += error.diagnostics
    if bad:
        raise Rejected(bad, sources)
    return pairs


def _stdin() -> Source:
    if sys.stdin is None:
        raise UsageError([Diagnostic("E003", f"`{STDIN}` cannot be read: it is closed")])
    return Source(STDIN, decode(sys.stdin.buffer.read(MAX_BYTES + 1), STDIN))


def _changes(source: Source, text: str) -> str:
    import difflib

    lines = difflib.unified_diff(
        source.text.splitlines(keepends=True), text.splitlines(keepends=True), source.name, source.name + " (formatted)"
    )
    return "".join(lines)


def _rewrite(source: Source, text: str) -> None:
    if source.name == STDIN or source.text == text:
        return
    try:
        write_file(Path(source.name), text)
    except OSError as error:
        raise UsageError([Diagnostic("E003", f"`{source.name}` cannot be written: {error.strerror}")]) from None
