"""Files and names: which file declares what, and what a name means where it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from hexdsl.ir.diagnostic import Diagnostic, Label, Span, SpecError
from hexdsl.ir.spec import KINDS
from hexdsl.ir.values import suggestion
from hexdsl.lang import nodes
from hexdsl.lang.source import Source, read_source
from hexdsl.lang.syntax import parse

CATALOG = "std/"


class Bad:
    """The value of something that was already reported: it silences what would follow from it."""


BAD = Bad()


@dataclass
class Report:
    """The messages of one run, in the order in which they were found."""

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def error(self, code: str, message: str, span: Span, help: str | None = None, *more: Label) -> Bad:
        self.diagnostics.append(Diagnostic(code, message, (Label(span), *more), help))
        return BAD

    def warning(self, code: str, message: str, span: Span, help: str | None = None) -> None:
        self.diagnostics.append(Diagnostic(code, message, (Label(span),), help, severity="warning"))

    def stop_on_error(self) -> None:
        """Raises SpecError where an error was reported."""
        if any(d.severity == "error" for d in self.diagnostics):
            raise SpecError(self.diagnostics)


@dataclass(frozen=True)
class Entry:
    """A declared name: where, and the statement that declares it."""

    name: str
    span: Span
    node: nodes.Param | nodes.Let | nodes.Block
    module: Module


@dataclass(eq=False)
class Module:
    """One file: its own declarations, and the modules that it imports."""

    source: Source
    path: Path | None
    entries: dict[str, Entry] = field(default_factory=dict)
    open_imports: list[Module] = field(default_factory=list)
    aliases: dict[str, Module] = field(default_factory=dict)
    targets: list[nodes.Block] = field(default_factory=list)

    def find(self, name: str) -> Entry | None:
        """The declaration that a bare name means here."""
        if name in self.entries:
            return self.entries[name]
        return next((m.entries[name] for m in self.open_imports if name in m.entries), None)

    def visible(self) -> Iterator[str]:
        """Every name that may be used here, without those behind an alias."""
        yield from self.entries
        for module in self.open_imports:
            yield from module.entries
        yield from self.aliases


@dataclass
class Files:
    """The files of one run: where they may lie, and those already read."""

    root: Path
    allowed: tuple[Path, ...]
    report: Report
    sources: dict[str, Source] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)

    def load_root(self, source: Source, path: Path | None) -> Module:
        """The root file with everything that it imports."""
        return self._module(source.name, source, path)

    def _module(self, key: str, source: Source, path: Path | None) -> Module:
        self.sources[source.name] = source
        module = self.modules[key] = Module(source, path)
        self.stack.append(key)
        for statement in self._parse(source):
            self._declare(module, statement)
        self.stack.pop()
        return module

    def _parse(self, source: Source) -> tuple[nodes.Statement, ...]:
        try:
            return parse(source).statements
        except SpecError as error:
            self.report.diagnostics.extend(error.diagnostics)
            return ()

    def _declare(self, module: Module, statement: nodes.Statement) -> None:
        if isinstance(statement, nodes.Import):
            self._import(module, statement)
        elif isinstance(statement, (nodes.Param, nodes.Let)):
            self._add(module, Entry(statement.name, statement.name_span, statement, module))
        elif isinstance(statement, nodes.Block):
            self._block(module, statement)
        else:
            help_ = "put it inside a block such as `serve NAME { ... }`, or write `let NAME = ...`"
            self.report.error("E012", "this statement must stand inside a block", statement.span, help_)

    def _block(self, module: Module, block: nodes.Block) -> None:
        if block.kind == "target":
            module.targets.append(block)
        elif block.kind not in KINDS:
            message = f"`{block.kind}` is not a kind of block"
            self.report.error("E022", message, block.kind_span, suggestion(block.kind, (*KINDS, "target")))
        elif len(block.labels) != 1 or not isinstance(block.labels[0], nodes.Name):
            help_ = f"write `{block.kind} NAME {{ ... }}`, the name without quotes"
            self.report.error("E105", f"a `{block.kind}` block needs one name", block.kind_span, help_)
        else:
            label = block.labels[0]
            self._add(module, Entry(label.name, label.span, block, module))

    def _add(self, module: Module, entry: Entry) -> None:
        earlier = module.find(entry.name)
        if earlier is None and entry.name not in module.aliases:
            module.entries[entry.name] = entry
            return
        more = (Label(earlier.span, "first declared here"),) if earlier else ()
        self.report.error("E021", f"`{entry.name}` is declared twice", entry.span, "give one of them another name", *more)

    def _import(self, module: Module, node: nodes.Import) -> None:
        imported = self._imported(module, node)
        if imported is None:
            return
        if node.alias:
            module.aliases[node.alias.name] = imported
            return
        for name in sorted(set(imported.entries) & set(module.visible())):
            earlier = module.find(name)
            if earlier is not None and earlier.module is not imported:
                help_ = "import one of the files with `as NAME`"
                self.report.error("E021", f"`{name}` comes from two files", node.span, help_, Label(earlier.span))
        module.open_imports.append(imported)

    def _imported(self, module: Module, node: nodes.Import) -> Module | None:
        place = self.locate(module, node.path.value, node.path.span)
        if place is None:
            return None
        path, name = place
        if name in self.stack:
            chain = " -> ".join([*self.stack[self.stack.index(name) :], name])
            self.report.error("E010", f"imports form a cycle: {chain}", node.span, "move what both need to a third file")
            return None
        if name in self.modules:
            return self.modules[name]
        source = self._read(path, name, node.path.span)
        return self._module(name, source, path) if source else None

    def _read(self, path: Path, name: str, span: Span) -> Source | None:
        try:
            return read_source(path, name)
        except SpecError as error:
            for d in error.diagnostics:
                self.report.diagnostics.append(Diagnostic(d.code, d.message, d.labels or (Label(span),), d.help))
            return None

    def locate(self, module: Module, text: str, span: Span) -> tuple[Path, str] | None:
        """The path that a string in a file means, and its name in messages; None where it is not allowed."""
        shipped = Path(str(files("hexdsl.std"))).resolve()
        catalog = text.startswith(CATALOG)
        base = shipped.parent if catalog else module.path.parent if module.path else self.root
        path = (base / text.replace("\0", "")).resolve()
        if catalog and path.is_relative_to(shipped):
            return path, text
        inside = next((r for r in (self.root, *self.allowed) if path.is_relative_to(r)), None)
        if inside is None or "\0" in text:
            help_ = "move the file below the root spec's folder, or allow its folder with `--allow-path FOLDER`"
            self.report.error("E011", f"`{text}` lies outside the folder of the spec", span, help_)
            return None
        return path, path.relative_to(inside).as_posix() if inside == self.root else path.as_posix()

    def digest(self, path: Path, name: str, span: Span) -> str | None:
        """The SHA-256 of an input file, None (and a message) where it cannot be read."""
        try:
            self.inputs[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            self.report.error("E001", f"there is no file `{name}`" if not path.exists() else f"`{name}`: {error.strerror}", span)
            return None
        return self.inputs[name]


def blocks_of(module: Module, kinds: Mapping[str, object]) -> Iterator[Entry]:
    """The file's own blocks of some kinds, in the order in which they were written."""
    return (e for e in module.entries.values() if isinstance(e.node, nodes.Block) and e.node.kind in kinds)
