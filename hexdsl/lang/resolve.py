"""From files to a `Spec`: parameters, imports, bases, every block against its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Diagnostic, Label, SpecError, UsageError
from hexdsl.ir.spec import KINDS, WORKFLOW_KINDS, Default, Spec
from hexdsl.ir.spec.target import Target
from hexdsl.lang import nodes
from hexdsl.lang.bind import Binder
from hexdsl.lang.draft import Draft
from hexdsl.lang.evaluate import Evaluator, Value
from hexdsl.lang.inputs import read_inputs
from hexdsl.lang.parameters import Parameters, in_force, unused
from hexdsl.lang.scope import BAD, Entry, Files, Module, Report, hint, look_up
from hexdsl.lang.semantics import problems
from hexdsl.lang.shape import shape_of
from hexdsl.lang.source import Source, read_source, text_of


@dataclass(frozen=True)
class Loaded:
    """A checked spec, the sources that messages point into, and what was said about it."""

    spec: Spec
    sources: Mapping[str, Source]
    diagnostics: tuple[Diagnostic, ...]
    folder: Path


@dataclass(frozen=True)
class Options:
    """What the command line adds: `-D`, `--params`, `--allow-path`."""

    defines: tuple[tuple[str, str], ...] = ()
    params: tuple[Path, ...] = ()
    allow: tuple[Path, ...] = ()


class Rejected(SpecError):
    """A spec error that knows its sources, for printing."""

    def __init__(self, diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> None:
        super().__init__(diagnostics)
        self.sources = sources


class Misused(UsageError):
    """A usage error that knows its sources, for printing."""

    def __init__(self, diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> None:
        super().__init__(diagnostics)
        self.sources = sources


def load_file(path: Path, options: Options = Options()) -> Loaded:
    """The checked spec of a file.  Raises UsageError (no such file) or Rejected with every message found."""
    source = read_source(path, path.name or str(path))
    return load_source(source, path.resolve(), options)


def load_source(source: Source, path: Path | None = None, options: Options = Options()) -> Loaded:
    """The checked spec of a text.  Raises UsageError or Rejected."""
    root = path.parent if path else Path.cwd()
    report = Report()
    files = Files(root, tuple(p.resolve() for p in options.allow), report)
    try:
        spec = _Resolver(files, report).spec(source, path, options)
    except UsageError as error:
        raise Misused(error.diagnostics, files.sources) from None
    except SpecError as error:
        raise Rejected(error.diagnostics, files.sources) from None
    return Loaded(spec, files.sources, tuple(report.diagnostics), root)


class _Resolver:
    def __init__(self, files: Files, report: Report) -> None:
        self.files, self.report = files, report
        self.evaluator = Evaluator(report, self.block)
        self.binder = Binder(self.evaluator, files, lambda draft, module: read_inputs(draft, module, files, self.block))
        self.drafts: dict[int, Draft | None] = {}
        self.blocks: dict[int, Value] = {}

    def spec(self, source: Source, path: Path | None, options: Options) -> Spec:
        root = self.files.load_root(source, path)
        outside = Parameters(root, self.files, self.evaluator)
        outside.read(options.params)
        outside.define(options.defines)
        records = [self._value(entry) for entry in root.entries.values() if entry.kind in KINDS]
        for entry in root.entries.values():
            self._value(entry)
        targets = self._targets(root)
        self.report.stop_on_error()
        for entry in unused(root):
            self.report.warning("W002", f"nothing uses parameter `{entry.name}`", entry.span, "remove it")
        return self._assemble(root, records, targets)

    def _assemble(self, root: Module, records: Sequence[Any], targets: tuple[Target, ...]) -> Spec:
        def of(*kinds: str) -> tuple[Any, ...]:
            return tuple(r for r in records if type(r).KIND in kinds)

        workflows = tuple(w if w.target or not targets else w.with_(target=targets) for w in of(*WORKFLOW_KINDS))
        given = in_force(root, self.evaluator.given)
        # The records are validated already; validating them again would build the schemas of all kinds.
        return Spec.model_construct(
            name=Path(root.source.name).stem,
            workflows=workflows,
            clusters=of("cluster"),
            models=of("model"),
            workloads=of("workload"),
            gpus=of("gpu"),
            defaults=tuple(d for w in workflows for d in defaults_of(w)),
            parameters={name: text_of(g.module.source, g.node.span) for name, g in given},
        )

    def _value(self, entry: Entry) -> Value:
        """The value of a name of the root file; a chain of names too long to follow is an error like any other."""
        try:
            return self.evaluator.entry(entry)
        except RecursionError:
            message = f"`{entry.name}` is defined through too many other names"
            self.report.error("E024", message, entry.span, "give some of them values of their own")
            raise SpecError(self.report.diagnostics) from None

    def block(self, entry: Entry) -> Value:
        """The record of a named block, made once."""
        if id(entry) not in self.blocks:
            draft = self._draft(entry)
            self.blocks[id(entry)] = BAD if draft is None else self._record(draft, entry)
        return self.blocks[id(entry)]

    def _record(self, draft: Draft, entry: Entry) -> Value:
        record = self.binder.finish(draft, entry.module)
        for problem in problems(record) if record is not BAD else ():
            span = draft.place.at(problem.loc).span
            found = Diagnostic(problem.code, problem.message, (Label(span),), problem.help)
            if found not in self.report.diagnostics:
                self.report.diagnostics.append(found)
        return record

    def _draft(self, entry: Entry) -> Draft | None:
        if id(entry) not in self.drafts:
            with self.evaluator.defining(entry) as fresh:
                if not fresh:
                    return None
                self.drafts[id(entry)] = self._fresh_draft(entry)
        return self.drafts[id(entry)]

    def _fresh_draft(self, entry: Entry) -> Draft | None:
        block, base = entry.node, None
        assert isinstance(block, nodes.Block)
        if block.base is not None:
            above = self._base(block, entry)
            base = self._draft(above) if above else None
            if above is None or base is None:
                return None
            self.block(above)
        draft = self.binder.draft(shape_of(KINDS[block.kind]), block, entry.module, base)
        if block.kind == "gpu" and base is not None and "like" not in draft.values:
            # A GPU that only changes a price is still the GPU that was measured.
            draft.values["like"] = base.values.get("name")
        return draft

    def _base(self, block: nodes.Block, entry: Entry) -> Entry | None:
        """The block that a block starts from, or None and a message."""
        names, span, module = block.base or (), block.base_span or block.kind_span, entry.module
        if len(names) == 2:
            found = look_up(names, (span, span), module, self.report)
        else:
            found = module.find(names[0]) if len(names) == 1 else None
            if found is None and names[0] not in module.broken:
                help_ = hint(names[0], module, block.kind, but=entry.name)
                self.report.error("E020", f"there is no {block.kind} `{'.'.join(names)}`", span, help_)
        if found is not None and found.kind != block.kind:
            self.report.error(
                "E023", f"`{'.'.join(names)}` is not a {block.kind}", span, f"name a `{block.kind}` block"
            )
            return None
        return found

    def _targets(self, root: Module) -> tuple[Target, ...]:
        """The targets written for the whole file: they hold for every workflow that has none of its own."""
        shape = shape_of(Target)
        made = [self.binder.finish(self.binder.draft(shape, block, root), root) for block in root.targets]
        return tuple(t for t in made if t is not BAD)


def defaults_of(workflow: Ir) -> tuple[Default, ...]:
    """The defaults that can change the plan and that the user did not write, of a workflow and its load."""
    place = f"{getattr(type(workflow), 'KIND', '')} {getattr(workflow, 'name', '')}"
    found = _defaults(workflow, place)
    load = getattr(workflow, "workload", None)
    if isinstance(load, Ir):
        found += () if getattr(load, "trace", None) else _defaults(load, f"workload {getattr(load, 'name', '')}")
    return found


def _defaults(record: Ir, place: str) -> tuple[Default, ...]:
    fields = shape_of(type(record)).fields.values()
    return tuple(
        Default(place=place, pin=f.pin, description=f.description)
        for f in fields
        if f.pin and f.name not in record.model_fields_set
    )
