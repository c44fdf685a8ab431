"""Files and names: which file declares what, and what a name means where it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hexdsl.ir.diagnostic import Diagnostic, Label, Span, SpecError
from hexdsl.ir.spec import KINDS
from hexdsl.ir.values import nearest, suggestion
from hexdsl.lang import nodes
from hexdsl.lang.shape import shape_of
from hexdsl.lang.shipped import shipped_blocks, shipped_folder
from hexdsl.lang.source import Source, check_regular, read_bytes, read_source
from hexdsl.lang.syntax import parse

CATALOG = "std/"
RESERVED = ("true", "false")
MAX_IMPORTS = 32
"""Files that may import one another in a chain: it bounds the recursion over them."""
MAX_INPUT = 10_000_000
"""Bytes of a file that the compiler reads whole, such as a config.json of a few kilobytes."""


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

    @property
    def failed(self) -> bool:
        """Whether an error was reported."""
        return any(d.severity == "error" for d in self.diagnostics)

    def stop_on_error(self) -> None:
        """Raises SpecError where an error was reported."""
        if self.failed:
            raise SpecError(self.diagnostics)


Declaration = nodes.Param | nodes.Let | nodes.Block


@dataclass(frozen=True)
class Entry:
    """A declared name: where, and the statement that declares it, which a shipped file parses when it is asked for."""

    name: str
    span: Span
    written: Declaration | Callable[[], Declaration]
    module: Module

    @cached_property
    def node(self) -> Declaration:
        return self.written() if callable(self.written) else self.written

    @property
    def kind(self) -> str:
        """The kind of a block; empty for a parameter or a `let`."""
        return self.node.kind if isinstance(self.node, nodes.Block) else ""


@dataclass(eq=False)
class Module:
    """One file: its own declarations, and the modules that it imports.

    `broken` are names whose declaration was reported as wrong: what uses them is not reported again.
    """

    source: Source
    path: Path | None
    entries: dict[str, Entry] = field(default_factory=dict)
    open_imports: list[Module] = field(default_factory=list)
    aliases: dict[str, Module] = field(default_factory=dict)
    statements: tuple[nodes.Statement, ...] = ()
    targets: list[nodes.Block] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def find(self, name: str) -> Entry | None:
        """The declaration that a bare name means here."""
        if name in self.entries:
            return self.entries[name]
        return next((m.entries[name] for m in self.open_imports if name in m.entries), None)

    def home(self, name: str) -> Module | None:
        """The file that declares a name and that this one imports, itself or through others."""
        imported = (*self.open_imports, *self.aliases.values())
        found = next((m for m in imported if name in m.entries), None)
        return found or next(filter(None, (m.home(name) for m in imported)), None)

    def declared(self) -> Iterator[tuple[str, Entry]]:
        """Every name that may be used here, as it is written here, and what it means."""
        yield from self.entries.items()
        for module in self.open_imports:
            yield from module.entries.items()
        for alias, module in self.aliases.items():
            yield from ((f"{alias}.{name}", entry) for name, entry in module.entries.items())


def look_up(names: tuple[str, ...], spans: tuple[Span, ...], module: Module, report: Report) -> Entry | None:
    """The entry of `FILE.NAME`, or None and a message.  The spans are those of the parts."""
    alias, name = names
    other = module.aliases.get(alias)
    if other is None:
        help_ = suggestion(alias, module.aliases) if module.aliases else 'write `import "file.hex" as NAME` first'
        report.error("E020", f"`{alias}` is not an imported file", spans[0], help_)
        return None
    entry = other.entries.get(name)
    if entry is None and name not in other.broken:
        help_ = suggestion(name, other.entries) if other.entries else "the file declares nothing"
        help_ = _behind(name, other) or help_
        report.error("E020", f"`{alias}` has no `{name}`", spans[1], help_)
    return entry


def _behind(name: str, module: Module) -> str:
    """Help for a name that an imported file has from another file; empty where that is not so."""
    home = module.home(name)
    return f"it is declared in `{home.source.name}`: import that file here as well" if home else ""


def hint(name: str, module: Module, kind: str = "", but: str = "") -> str:
    """Help for a name that is not there: the nearest declared name (of a kind; not `but`), or how to declare it."""
    behind = next(filter(None, (_behind(name, m) for m in module.open_imports)), "")
    if behind:
        return behind
    known = sorted(n for n, entry in module.declared() if kind in ("", entry.kind) and n != but)
    close = nearest(name, known) or next((n for n in known if n.partition(".")[2] == name), None)
    if close:
        return f"did you mean `{close}`?"
    if not kind:
        return f"declare `{name}`, or import the file that does"
    declare = f"declare it: `{kind} {name} {{ ... }}`"
    return f"{suggestion(name, known)}; or {declare}" if known else declare


@dataclass
class Files:
    """The files of one run: where they may lie, and those already read."""

    root: Path
    allowed: tuple[Path, ...]
    report: Report
    sources: dict[str, Source] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    unread: bool = False
    """Whether a file could not be read or parsed: names may then seem to be missing."""

    def load_root(self, source: Source, path: Path | None) -> Module:
        """The root file with everything that it imports.  Raises SpecError where a file cannot be read or parsed."""
        module = self._module(source.name, source, path)
        if self.unread:
            raise SpecError(self.report.diagnostics)
        return module

    def catalog(self, name: str) -> Module:
        """A file of the shipped catalog, whether the spec imports it or not."""
        key, path = CATALOG + name, shipped_folder() / name
        return self.modules.get(key) or self._module(key, read_source(path, key), path)

    def _module(self, key: str, source: Source, path: Path | None) -> Module:
        self.sources[source.name] = source
        module = self.modules[key] = Module(source, path)
        if path is not None and path.parent == shipped_folder():
            blocks = shipped_blocks(source)
            module.entries.update({name: Entry(name, span, parsed, module) for name, span, parsed in blocks})
            return module
        self.stack.append(key)
        module.statements = self._parse(source)
        for statement in module.statements:
            self._declare(module, statement)
        self.stack.pop()
        return module

    def _parse(self, source: Source) -> tuple[nodes.Statement, ...]:
        try:
            return parse(source).statements
        except SpecError as error:
            self.unread = True
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
        names = [label.name for label in block.labels if isinstance(label, nodes.Name)]
        if block.kind != "target" and block.kind not in KINDS:
            module.broken.update(names)
            self.report.error("E022", f"`{block.kind}` is not a kind of block", block.kind_span, _kind_help(block.kind))
        elif len(block.labels) != 1 or not names:
            module.broken.update(names)
            spot = block.labels[-1].span if block.labels else block.kind_span
            help_ = f"write `{block.kind} NAME {{ ... }}`, the name without quotes"
            self.report.error("E105", f"a `{block.kind}` block needs one name", spot, help_)
        elif block.kind == "target":
            self._target(module, block, names[0])
        else:
            self._add(module, Entry(names[0], block.labels[0].span, block, module))

    def _target(self, module: Module, block: nodes.Block, name: str) -> None:
        earlier = next((t.labels[0] for t in module.targets if _label_name(t) == name), None)
        module.targets.append(block)
        if earlier is not None:
            more = Label(earlier.span, "first declared here")
            self.report.error(
                "E021", f"`target {name}` is declared twice", block.labels[0].span, "keep one of them", more
            )

    def _add(self, module: Module, entry: Entry) -> None:
        if entry.name in RESERVED:
            self.report.error(
                "E105", f"`{entry.name}` is a value and cannot be a name", entry.span, "choose another name"
            )
            return
        earlier = module.find(entry.name)
        if earlier is None and entry.name not in module.aliases:
            module.entries[entry.name] = entry
            return
        more = (Label(earlier.span, "first declared here"),) if earlier else ()
        self.report.error(
            "E021", f"`{entry.name}` is declared twice", entry.span, "give one of them another name", *more
        )

    def _import(self, module: Module, node: nodes.Import) -> None:
        imported = self._imported(module, node)
        if imported is None:
            self.unread = True
            return
        if node.alias is not None:
            self._alias(module, node.alias, imported)
            return
        if imported in module.open_imports:
            return
        for name in sorted(set(imported.entries) & {n for n, _ in module.declared()}):
            earlier = module.find(name)
            if earlier is not None:
                help_ = "import one of the files with `as NAME`"
                more = Label(earlier.span, "first declared here")
                self.report.error("E021", f"`{name}` comes from two files", node.path.span, help_, more)
        module.open_imports.append(imported)
        module.broken |= imported.broken

    def _alias(self, module: Module, alias: nodes.Name, imported: Module) -> None:
        if alias.name in module.aliases or module.find(alias.name) is not None:
            self.report.error("E021", f"`{alias.name}` is declared twice", alias.span, "choose another name after `as`")
            return
        module.aliases[alias.name] = imported

    def _imported(self, module: Module, node: nodes.Import) -> Module | None:
        place = self.locate(module, node.path.value, node.path.span)
        if place is None:
            return None
        path, name = place
        if name in self.stack:
            chain = " -> ".join([*self.stack[self.stack.index(name) :], name])
            self.report.error(
                "E010", f"imports form a cycle: {chain}", node.path.span, "move what both need to a third file"
            )
            return None
        if len(self.stack) > MAX_IMPORTS:
            message = f"imports are nested deeper than {MAX_IMPORTS} files"
            self.report.error("E010", message, node.path.span, "import the innermost files directly")
            return None
        if name in self.modules:
            return self.modules[name]
        source = self._read(path, name, node.path.span)
        return self._module(name, source, path) if source else None

    def _read(self, path: Path, name: str, span: Span) -> Source | None:
        try:
            check_regular(path, name)
            return read_source(path, name)
        except SpecError as error:
            self._unreadable(error, name, span)
            return None

    def _unreadable(self, error: SpecError, name: str, span: Span) -> None:
        for d in error.diagnostics:
            help_ = d.help or (_missing_help(name) if d.code == "E001" else None)
            self.report.diagnostics.append(Diagnostic(d.code, d.message, d.labels or (Label(span),), help_))

    def locate(self, module: Module, text: str, span: Span) -> tuple[Path, str] | None:
        """The path that a string in a file means, and its name in messages; None where it is not allowed."""
        shipped = shipped_folder()
        catalog = text.startswith(CATALOG)
        base = shipped.parent if catalog else module.path.parent if module.path else self.root
        try:
            path = (base / text.replace("\0", "")).resolve()
        except (OSError, RuntimeError):
            self.report.error("E003", f"`{text}` is a loop of symbolic links", span)
            return None
        if catalog and path.is_relative_to(shipped):
            return path, CATALOG + path.relative_to(shipped).as_posix()
        inside = next((r for r in (self.root, *self.allowed) if path.is_relative_to(r)), None)
        if inside is None or "\0" in text:
            help_ = "move the file below the root spec's folder, or allow its folder with `--allow-path FOLDER`"
            self.report.error("E011", f"`{text}` lies outside the folder of the spec", span, help_)
            return None
        return path, path.relative_to(inside).as_posix() if inside == self.root else path.as_posix()

    def small(self, path: Path, name: str, span: Span, most: int = MAX_INPUT) -> bytes | None:
        """The bytes of an input file that is read now; None (and a message) where it cannot be read."""
        try:
            check_regular(path, name)
            data = read_bytes(path, name, most + 1)
        except SpecError as error:
            self._unreadable(error, name, span)
            return None
        if len(data) > most:
            self.report.error("E003", f"`{name}` is larger than {most // 10**6} MB", span, "name the right file")
            return None
        return data

    def digest(self, path: Path, name: str, span: Span) -> str | None:
        """The SHA-256 of an input file that is read later; None (and a message) where it cannot be read."""
        try:
            check_regular(path, name)
            read_bytes(path, name, 0)
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except SpecError as error:
            self._unreadable(error, name, span)
        except OSError as error:
            self.report.error("E003", f"`{name}` cannot be read: {error.strerror}", span)
        return None


def _missing_help(name: str) -> str:
    shipped = sorted(f.name for f in shipped_folder().glob("*.hex"))
    if name.startswith(CATALOG):
        return suggestion(name, (CATALOG + s for s in shipped))
    return "paths are relative to the file that names them; `std/` is the shipped catalog"


def _kind_help(kind: str) -> str:
    """Where a kind that is no kind of the top level belongs, or the nearest one."""
    homes = [name for name, model in KINDS.items() if (f := shape_of(model).fields.get(kind)) and f.block]
    if homes:
        return f"`{kind}` stands inside " + " or ".join(f"`{home}`" for home in homes)
    return suggestion(kind, (*KINDS, "target"))


def _label_name(block: nodes.Block) -> str:
    label = block.labels[0]
    return label.name if isinstance(label, nodes.Name) else label.value
