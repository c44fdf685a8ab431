"""Parameters from outside a spec: `-D name=value`, `--params file`, and which of them nothing uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hexdsl.ir.diagnostic import Diagnostic, Label, SpecError, UsageError
from hexdsl.ir.values import suggestion
from hexdsl.lang import nodes
from hexdsl.lang.evaluate import Evaluator, Given
from hexdsl.lang.scope import Entry, Files, Module
from hexdsl.lang.source import Source, read_source
from hexdsl.lang.syntax import parse


@dataclass(frozen=True)
class Parameters:
    """Sets the parameters of a root file from outside."""

    root: Module
    files: Files
    evaluator: Evaluator

    @property
    def known(self) -> dict[str, Entry]:
        """The parameters that may be set: the file's own and those of its open imports."""
        modules = (*self.root.open_imports, self.root)
        return {n: e for m in modules for n, e in m.entries.items() if isinstance(e.node, nodes.Param)}

    def read(self, params: tuple[Path, ...]) -> None:
        """Takes the values of parameter files, later ones over earlier ones.  Raises SpecError."""
        for path in params:
            self._file(path)

    def define(self, defines: tuple[tuple[str, str], ...]) -> None:
        """Takes the values of `-D`, over those of files.  Raises UsageError for an unusable one."""
        for name, text in defines:
            self._define(name, text)
        for name in dict.fromkeys(name for name, _ in defines):
            self.evaluator.entry(self.known[name])
        wrong = [d for d in self.files.report.diagnostics if d.labels and d.labels[0].span.file.startswith("-D ")]
        if wrong:
            raise UsageError(wrong)

    def _define(self, name: str, text: str) -> None:
        entry = self.known.get(name)
        if entry is None:
            raise UsageError([Diagnostic("E031", f"there is no parameter `{name}`", (), self._nearest(name))])
        source = Source(f"-D {name}", f"{name} = {text}")
        self.files.sources[source.name] = source
        try:
            statements = parse(source).statements
        except SpecError as error:
            raise UsageError(error.diagnostics) from None
        node = statements[0]
        if len(statements) != 1 or not isinstance(node, nodes.Attr):
            raise UsageError(
                [Diagnostic("E032", f"`-D {name}={text}` is not one value", (), f"write `-D {name}=VALUE`")]
            )
        self.evaluator.given[id(entry)] = Given(node.value, Module(source, None, open_imports=[self.root]))

    def _nearest(self, name: str) -> str:
        return suggestion(name, self.known) if self.known else "the spec declares no `param`"

    def _file(self, path: Path) -> None:
        name = path.as_posix() if path.as_posix() not in self.files.sources else f"--params {path.as_posix()}"
        source = read_source(path, name)
        self.files.sources[name] = source
        module = self.files.modules[name] = Module(source, path.resolve(), open_imports=[self.root])
        seen: dict[str, nodes.Attr] = {}
        for node in parse(source).statements:
            if not isinstance(node, nodes.Attr):
                message = "a parameter file holds lines `name = value` and nothing else"
                self.files.report.error("E012", message, node.span, "delete this, or import it from the spec")
            elif node.name in seen:
                more = Label(seen[node.name].name_span, "first set here")
                self.files.report.error("E103", f"`{node.name}` is set twice", node.name_span, "keep one of them", more)
            else:
                seen[node.name] = node
                self._take(node, module)

    def _take(self, node: nodes.Attr, module: Module) -> None:
        entry = self.known.get(node.name)
        if entry is None:
            message = f"there is no parameter `{node.name}`"
            self.files.report.error("E031", message, node.name_span, self._nearest(node.name))
            return
        self.evaluator.given[id(entry)] = Given(node.value, module)


def in_force(root: Module, given: Mapping[int, Given]) -> Iterator[tuple[str, Given]]:
    """The root file's parameters, each with the expression that it has."""
    for name, entry in sorted(root.entries.items()):
        if isinstance(entry.node, nodes.Param):
            if id(entry) in given:
                yield name, given[id(entry)]
            elif entry.node.default is not None:
                yield name, Given(entry.node.default, root)


def unused(root: Module) -> Iterator[Entry]:
    """The root file's parameters that none of its statements names."""
    own = [e for e in root.entries.values() if isinstance(e.node, nodes.Param)]
    named = set(_names(root.statements)) if own else set()
    return (e for e in own if e.name not in named)


def _names(part: Any) -> Iterator[str]:
    if isinstance(part, nodes.Name):
        yield part.name
    elif isinstance(part, tuple):
        for inner in part:
            yield from _names(inner)
    elif isinstance(part, nodes.Node):
        for name in part.FIELDS:
            if name != "type":
                yield from _names(getattr(part, name))
