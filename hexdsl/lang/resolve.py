"""From files to a `Spec`: parameters, imports, bases, every block against its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Diagnostic, SpecError, UsageError
from hexdsl.ir.spec import KINDS, WORKFLOW_KINDS, Default, Spec
from hexdsl.ir.spec.target import Target
from hexdsl.ir.values import suggestion
from hexdsl.lang import nodes
from hexdsl.lang.bind import Binder, Draft
from hexdsl.lang.evaluate import Evaluator, Value
from hexdsl.lang.inputs import read_inputs
from hexdsl.lang.scope import BAD, Entry, Files, Module, Report, blocks_of
from hexdsl.lang.semantics import check_meaning
from hexdsl.lang.shape import shape_of
from hexdsl.lang.source import Source, read_source
from hexdsl.lang.syntax import parse


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


def load_file(path: Path, options: Options = Options()) -> Loaded:
    """The checked spec of a file.  Raises UsageError (no such file) or Rejected with every message found."""
    source = read_source(path, path.name)
    return load_source(source, path.resolve(), options)


def load_source(source: Source, path: Path | None = None, options: Options = Options()) -> Loaded:
    """The checked spec of a text.  Raises UsageError or Rejected."""
    root = path.parent if path else Path.cwd()
    report = Report()
    files = Files(root, tuple(p.resolve() for p in options.allow), report)
    try:
        spec = _Resolver(files, report).spec(source, path, options)
    except SpecError as error:
        if isinstance(error, UsageError):
            raise
        raise Rejected(error.diagnostics, files.sources) from None
    return Loaded(spec, files.sources, tuple(report.diagnostics), root)


class _Resolver:
    def __init__(self, files: Files, report: Report) -> None:
        self.files, self.report = files, report
        self.evaluator = Evaluator(report, self.block)
        self.binder = Binder(self.evaluator, files, lambda draft, module: read_inputs(draft, module, files))
        self.drafts: dict[int, Draft | None] = {}
        self.blocks: dict[int, Value] = {}
        self.active: list[Entry] = []

    def spec(self, source: Source, path: Path | None, options: Options) -> Spec:
        root = self.files.load_root(source, path)
        self.report.stop_on_error()
        self.evaluator.given = self._given(root, options)
        records = [self.block(entry) for entry in blocks_of(root, KINDS)]
        self._check_unused(root)
        good = [r for r in records if r is not BAD]
        workflows = [self._with_targets(r, root) for r in good if type(r).KIND in WORKFLOW_KINDS]
        self.report.stop_on_error()
        return self._assemble(source, good, workflows, options)

    def _assemble(self, source: Source, good: Sequence[Any], workflows: Sequence[Any], options: Options) -> Spec:
        def of(kind: str) -> tuple[Any, ...]:
            return tuple(r for r in good if type(r).KIND == kind)

        given = {k: v for k, v in sorted(self.evaluator.given.items())}
        return Spec(
            name=Path(source.name).stem,
            workflows=tuple(workflows),
            clusters=of("cluster"),
            models=of("model"),
            workloads=of("workload"),
            gpus=of("gpu"),
            defaults=tuple(d for w in workflows for d in defaults_of(w)),
            parameters={k: getattr(v, "text", "") or str(v) for k, v in given.items()},
        )

    def block(self, entry: Entry) -> Value:
        """The record of a named block, made once."""
        if id(entry) not in self.blocks:
            draft = self._draft(entry)
            record = self.blocks[id(entry)] = BAD if draft is None else self.binder.finish(draft, entry.module)
            if record is not BAD:
                check_meaning(record, entry, self.report)
        return self.blocks[id(entry)]

    def _draft(self, entry: Entry) -> Draft | None:
        if id(entry) in self.drafts:
            return self.drafts[id(entry)]
        if entry in self.active:
            self.report.error("E024", f"`{entry.name}` is defined by itself", entry.span, "give it another base")
            return None
        self.active.append(entry)
        self.drafts[id(entry)] = self._fresh_draft(entry)
        self.active.pop()
        return self.drafts[id(entry)]

    def _fresh_draft(self, entry: Entry) -> Draft | None:
        block = entry.node
        assert isinstance(block, nodes.Block)
        base = None
        if block.base is not None:
            base = self._base(block, entry.module)
            if base is None:
                return None
        return self.binder.draft(shape_of(KINDS[block.kind]), block, entry.module, base)

    def _base(self, block: nodes.Block, module: Module) -> Draft | None:
        names, span = block.base or (), block.base_span or block.kind_span
        owner = module.aliases.get(names[0]) if len(names) == 2 else module
        entry = None
        if owner is not None and len(names) <= 2:
            entry = owner.entries.get(names[-1]) if len(names) == 2 else owner.find(names[0])
        if entry is None:
            help_ = suggestion(names[-1], owner.visible()) if owner else suggestion(names[0], module.aliases)
            self.report.error("E020", f"there is no `{'.'.join(names)}`", span, help_ if names else None)
            return None
        if not isinstance(entry.node, nodes.Block) or entry.node.kind != block.kind:
            self.report.error("E023", f"`{entry.name}` is not a {block.kind}", span, f"name a `{block.kind}` block")
            return None
        return self._draft(entry)

    def _with_targets(self, workflow: Any, root: Module) -> Any:
        """Targets written for the whole file hold for a workflow that has none of its own."""
        if workflow.target or not root.targets:
            return workflow
        shape = shape_of(Target)
        made = [self.binder.finish(self.binder.draft(shape, t, root), root) for t in root.targets]
        return workflow.with_(target=tuple(t for t in made if t is not BAD))

    def _given(self, root: Module, options: Options) -> dict[str, Value]:
        given: dict[str, Value] = {}
        for path in options.params:
            given |= self._params_file(path)
        for name, text in options.defines:
            given[name] = self._define(name, text, root)
        known = {n: m for m in (root, *root.open_imports) for n, e in m.entries.items() if isinstance(e.node, nodes.Param)}
        for name in given:
            if name not in known:
                help_ = suggestion(name, known) if known else "the spec declares no `param`"
                raise UsageError([Diagnostic("E031", f"there is no parameter `{name}`", (), help_)])
        self.report.stop_on_error()
        return given

    def _define(self, name: str, text: str, root: Module) -> Value:
        source = Source(f"-D {name}", f"let value = {text}")
        self.files.sources[source.name] = source
        try:
            statements = parse(source).statements
        except SpecError as error:
            self.report.diagnostics.extend(error.diagnostics)
            return BAD
        if len(statements) != 1 or not isinstance(statements[0], nodes.Let):
            raise UsageError([Diagnostic("E032", f"`-D {name}={text}` is not one value")])
        return self.evaluator.value(statements[0].value, root)

    def _params_file(self, path: Path) -> dict[str, Value]:
        source = read_source(path, path.name)
        self.files.sources[source.name] = source
        module = Module(source, path.resolve())
        found: dict[str, Value] = {}
        for node in parse(source).statements:
            if isinstance(node, nodes.Attr):
                found[node.name] = self.evaluator.value(node.value, module)
            else:
                self.report.error("E012", "a parameter file holds lines `name = value`", node.span)
        self.report.stop_on_error()
        return found

    def _check_unused(self, root: Module) -> None:
        for name, entry in root.entries.items():
            if isinstance(entry.node, nodes.Param) and name not in self.evaluator.used:
                self.report.warning("W002", f"nothing uses parameter `{name}`", entry.span, "remove it")


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

