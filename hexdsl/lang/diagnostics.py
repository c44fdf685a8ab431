"""Diagnostics as text in rustc's form and as JSON in OpenTofu's shape.  Nothing of a source reaches a terminal raw."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hexdsl.ir.diagnostic import Diagnostic, Label, Span
from hexdsl.lang.source import Source

FORMAT_VERSION = "1.0"
TAB = 4
WINDOW = 100
"""Columns of a source line that are shown; a longer line is clipped around the place."""
MARGIN = 30
"""Columns kept before the place in a clipped line."""

STYLES = {"error": "1;31", "warning": "1;33", "note": "1;36", "gutter": "1;34", "title": "1"}


def ordered(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """By file, line, column and code; those without a place come first."""
    return tuple(sorted(diagnostics, key=_key))


def _key(diagnostic: Diagnostic) -> tuple[str, int, int, str, str]:
    if not diagnostic.labels:
        return ("", 0, 0, diagnostic.code, diagnostic.message)
    span = diagnostic.labels[0].span
    return (span.file, span.line, span.column, diagnostic.code, diagnostic.message)


def render(diagnostics: Iterable[Diagnostic], sources: Mapping[str, Source], color: bool = False) -> str:
    """All diagnostics as text, a blank line between them; `sources` by name.  A missing source costs only its lines."""
    return "\n\n".join("\n".join(_Text(color, sources, d).lines()) for d in ordered(diagnostics))


@dataclass(frozen=True)
class _Text:
    """One diagnostic on its way to text."""

    color: bool
    sources: Mapping[str, Source]
    diagnostic: Diagnostic

    def lines(self) -> Iterator[str]:
        d = self.diagnostic
        yield self._paint(d.severity, f"{d.severity}[{d.code}]") + self._paint("title", f": {printable(d.message)}")
        for i, (file, labels) in enumerate(self._files()):
            first = labels[0].span
            arrow = self._paint("gutter", f" {' ' * self._width}{':::' if i else '-->'}")
            yield f"{arrow} {printable(file)}:{first.line}:{first.column}"
            if file in self.sources:
                yield self._bar()
                yield from self._file(self.sources[file], labels)
        if d.help:
            yield from self._remark("help", d.help)
        for note in d.notes:
            yield from self._remark("note", note)

    @property
    def _width(self) -> int:
        return len(str(max((label.span.line for label in self.diagnostic.labels), default=1)))

    def _files(self) -> list[tuple[str, list[Label]]]:
        """The labels by file, that of the primary label first."""
        names = dict.fromkeys(label.span.file for label in self.diagnostic.labels)
        return [(name, [label for label in self.diagnostic.labels if label.span.file == name]) for name in names]

    def _file(self, source: Source, labels: list[Label]) -> Iterator[str]:
        shown = 0
        for line, group in groupby(sorted(labels, key=_by_place), key=lambda label: label.span.line):
            if shown and line > shown + 1:
                yield self._paint("gutter", "...")
            yield from self._line(source, line, list(group))
            shown = line

    def _line(self, source: Source, line: int, labels: list[Label]) -> Iterator[str]:
        raw = source.lines[line - 1] if line <= len(source.lines) else ""
        view = _View(raw, min(label.span.column for label in labels))
        yield self._paint("gutter", f" {line:>{self._width}} |") + f" {view.text}".rstrip()
        for label in labels:
            primary = label is self.diagnostic.labels[0]
            before, width = view.place(label.span)
            style = self.diagnostic.severity if primary else "gutter"
            mark = f"{'^' if primary else '-'}" * width + (f" {printable(label.text)}" if label.text else "")
            yield f"{self._bar()} {' ' * before}{self._paint(style, mark)}"

    def _bar(self) -> str:
        return self._paint("gutter", f" {' ' * self._width} |")

    def _remark(self, kind: str, text: str) -> Iterator[str]:
        first, *more = text.split("\n")
        yield self._paint("gutter", f" {' ' * self._width} =") + f" {kind}: {printable(first)}"
        yield from (f" {' ' * self._width}         {printable(line)}".rstrip() for line in more)

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.color else text


def _by_place(label: Label) -> tuple[int, int]:
    return (label.span.line, label.span.column)


class _View:
    """The part of a line that is shown, and where its characters stand on the screen."""

    def __init__(self, raw: str, column: int) -> None:
        cells = [_cell(char) for char in raw]
        self.ends = [0]
        for cell in cells:
            self.ends.append(self.ends[-1] + _columns(cell))
        self.first, self.last = self._window(min(column - 1, len(raw)))
        self.lead = "..." if self.first else ""
        self.text = self.lead + "".join(cells[self.first : self.last]) + ("..." if self.last < len(raw) else "")

    def _window(self, wanted: int) -> tuple[int, int]:
        """First and last character shown: all of a short line, else a window that has the wanted one."""
        if self.ends[-1] <= WINDOW:
            return 0, len(self.ends) - 1
        start = max(0, min(self.ends[wanted] - MARGIN, self.ends[-1] - WINDOW))
        first = next(i for i, end in enumerate(self.ends) if end >= start)
        last = max(i for i, end in enumerate(self.ends) if end <= self.ends[first] + WINDOW)
        return first, last

    def place(self, span: Span) -> tuple[int, int]:
        """Columns before a span, and its width; what lies outside the window is cut off."""
        begin = self._clamped(span.column - 1)
        end = self._clamped(span.column - 1 + span.width)
        return len(self.lead) + self.ends[begin] - self.ends[self.first], max(1, self.ends[end] - self.ends[begin])

    def _clamped(self, index: int) -> int:
        return max(self.first, min(index, self.last))


def _cell(char: str) -> str:
    return " " * TAB if char == "\t" else printable(char)


def _columns(cell: str) -> int:
    return sum(_char_columns(char) for char in cell)


def _char_columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def printable(text: str) -> str:
    """The text with control, direction-changing and other invisible characters written as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def to_json(diagnostics: Iterable[Diagnostic], sources: Mapping[str, Source]) -> dict[str, Any]:
    """All diagnostics in OpenTofu's shape, with the code, the help and every label added."""
    found = ordered(diagnostics)
    errors = sum(d.severity == "error" for d in found)
    return {
        "format_version": FORMAT_VERSION,
        "valid": errors == 0,
        "error_count": errors,
        "warning_count": sum(d.severity == "warning" for d in found),
        "diagnostics": [_record(d, sources) for d in found],
    }


def _record(diagnostic: Diagnostic, sources: Mapping[str, Source]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "severity": diagnostic.severity,
        "code": diagnostic.code,
        "summary": diagnostic.message,
        "detail": "\n".join(filter(None, (diagnostic.help, *diagnostic.notes))),
        "help": diagnostic.help,
        "notes": list(diagnostic.notes),
        "labels": [{"range": _range(label.span, sources), "text": label.text} for label in diagnostic.labels],
    }
    if diagnostic.labels:
        span = diagnostic.labels[0].span
        record["range"] = _range(span, sources)
        if span.file in sources:
            record["snippet"] = _snippet(span, sources[span.file])
    return record


def _range(span: Span, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Lines and columns count from 1; `byte` is the offset in the UTF-8 text with `\\n` line ends."""
    source = sources.get(span.file)
    end = (span.line, span.column + span.width) if source is None else _line_column(source, span.start + span.width)
    return {
        "filename": span.file,
        "start": _position(source, span.line, span.column, span.start),
        "end": _position(source, *end, span.start + span.width),
    }


def _position(source: Source | None, line: int, column: int, offset: int) -> dict[str, int]:
    byte = offset if source is None else len(source.text[:offset].encode("utf-8", "surrogatepass"))
    return {"line": line, "column": column, "byte": byte}


def _line_column(source: Source, offset: int) -> tuple[int, int]:
    before = source.text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _snippet(span: Span, source: Source) -> dict[str, Any]:
    code = source.lines[span.line - 1] if span.line <= len(source.lines) else ""
    start = min(span.column - 1, len(code))
    return {
        "context": None,
        "code": code,
        "start_line": span.line,
        "highlight_start_offset": start,
        "highlight_end_offset": min(start + span.width, len(code)),
        "values": [],
    }
