"""Diagnostics as text and as JSON."""

from __future__ import annotations

import json
import re

from hexdsl.ir.diagnostic import Diagnostic, Label, Span
from hexdsl.lang.diagnostics import WINDOW, ordered, printable, render, to_json
from hexdsl.lang.source import Source

SPEC = Source("serve.hex", "serve chat {\n  on = cloud\n\n  goodput >= 12req/s\n  cost <= $10/h\n}\n")
CATALOG = Source("gpus.hex", "gpu H100 {}\n")
SOURCES = {source.name: source for source in (SPEC, CATALOG)}


def label(source: Source, text: str, words: str = "") -> Label:
    start = source.text.index(text)
    line = source.text.count("\n", 0, start) + 1
    return Label(source.span(line, start - source.starts[line - 1] + 1, len(text)), words)


CONFLICT = Diagnostic(
    "P001",
    "no plan meets these 2 lines together",
    (label(SPEC, "goodput >= 12req/s"), label(SPEC, "cost <= $10/h")),
    "12req/s needs at least $14.80/h here",
)


def test_the_form_of_the_language_page() -> None:
    assert render([CONFLICT], SOURCES) == "\n".join(
        [
            "error[P001]: no plan meets these 2 lines together",
            "  --> serve.hex:4:3",
            "   |",
            " 4 |   goodput >= 12req/s",
            "   |   ^^^^^^^^^^^^^^^^^^",
            " 5 |   cost <= $10/h",
            "   |   -------------",
            "   = help: 12req/s needs at least $14.80/h here",
        ]
    )


def test_several_files_gaps_and_notes() -> None:
    labels = (label(SPEC, "goodput"), label(SPEC, "chat", "in here"), label(CATALOG, "H100", "declared here"))
    told = Diagnostic("W009", "odd", labels, severity="warning", notes=("one", "two\nlines"))
    assert render([told], SOURCES) == "\n".join(
        [
            "warning[W009]: odd",
            "  --> serve.hex:4:3",
            "   |",
            " 1 | serve chat {",
            "   |       ---- in here",
            "...",
            " 4 |   goodput >= 12req/s",
            "   |   ^^^^^^^",
            "  ::: gpus.hex:1:5",
            "   |",
            " 1 | gpu H100 {}",
            "   |     ---- declared here",
            "   = note: one",
            "   = note: two",
            "           lines",
        ]
    )


def test_order_is_that_of_the_text() -> None:
    first, second = Diagnostic("E002", "b", (label(SPEC, "chat"),)), Diagnostic("E001", "a", (label(SPEC, "cost"),))
    nowhere, other = Diagnostic("E003", "c"), Diagnostic("E001", "d", (label(CATALOG, "gpu"),))
    assert ordered([second, first, other, nowhere]) == (nowhere, other, first, second)
    assert render([first, nowhere], SOURCES).startswith("error[E003]: c\n\nerror[E002]: b")


def test_without_the_source_only_the_place_is_shown() -> None:
    told = Diagnostic("E001", "a", (Label(Span("gone.hex", 3, 4)),))
    assert render([told], {}) == "error[E001]: a\n  --> gone.hex:3:4"


def test_nothing_of_a_source_reaches_the_terminal_raw() -> None:
    evil = Source("\x1b[2J.hex", "let a = \x1b]0;x\x07\u202e b\n")
    told = Diagnostic("E001", f"bad {evil.text}", (Label(evil.span(1, 14)),), help="see \x9b31m")
    text = render([told], {evil.name: evil})
    assert all(char.isprintable() or char == "\n" for char in text)
    assert " 1 | let a = \\x1b]0;x\\x07\\u202e b" in text
    assert printable("café 日本") == "café 日本"


def test_carets_stand_under_tabs_and_wide_characters() -> None:
    source = Source("a.hex", '\tname = "日本" x\n')
    lines = render([Diagnostic("E001", "a", (Label(source.span(1, 14)),))], {"a.hex": source}).split("\n")
    assert lines[3] == ' 1 |     name = "日本" x'
    assert lines[4] == "   |" + " " * len('     name = "1234" ') + "^"


def test_long_lines_are_clipped_around_the_place() -> None:
    source = Source("a.hex", "x" * 500 + "HERE" + "y" * 500)
    lines = render([Diagnostic("E001", "a", (Label(source.span(1, 501, 4)),))], {"a.hex": source}).split("\n")
    assert len(lines[3]) <= WINDOW + 20
    assert lines[3].index("HERE") == lines[4].index("^^^^")
    assert lines[3].endswith("y...")
    assert lines[3].startswith(" 1 | ...x")


def test_a_span_over_several_lines_is_marked_to_the_end_of_its_first() -> None:
    text = render([Diagnostic("E001", "a", (Label(Span("serve.hex", 1, 1, 0, len(SPEC.text))),))], SOURCES)
    assert text.split("\n")[4] == "   | ^^^^^^^^^^^^"


def test_color_changes_nothing_but_escapes() -> None:
    colored = render([CONFLICT], SOURCES, color=True)
    assert colored != render([CONFLICT], SOURCES)
    assert re.sub("\x1b\\[[0-9;]*m", "", colored) == render([CONFLICT], SOURCES)


def test_json() -> None:
    warning = Diagnostic("W001", "b", (label(CATALOG, "H100", "é"),), severity="warning")
    record = json.loads(json.dumps(to_json([CONFLICT, warning], SOURCES)))
    assert (record["format_version"], record["valid"]) == ("1.0", False)
    assert (record["error_count"], record["warning_count"]) == (1, 1)
    first, second = record["diagnostics"]
    assert (first["severity"], first["code"], first["summary"]) == ("warning", "W001", "b")
    assert second["detail"] == second["help"] == CONFLICT.help
    assert second["range"] == {
        "filename": "serve.hex",
        "start": {"line": 4, "column": 3, "byte": 29},
        "end": {"line": 4, "column": 21, "byte": 47},
    }
    assert second["snippet"]["code"] == "  goodput >= 12req/s"
    assert (second["snippet"]["highlight_start_offset"], second["snippet"]["highlight_end_offset"]) == (2, 20)
    assert [part["range"]["start"]["line"] for part in second["labels"]] == [4, 5]


def test_json_without_places() -> None:
    record = to_json([Diagnostic("E001", "a")], {})
    assert "range" not in record["diagnostics"][0]
    assert to_json([], {})["valid"] is True


def test_json_bytes_count_utf8() -> None:
    source = Source("a.hex", 'a = "é" x')
    record = to_json([Diagnostic("E001", "a", (Label(source.span(1, 9)),))], {"a.hex": source})
    assert record["diagnostics"][0]["range"]["start"] == {"line": 1, "column": 9, "byte": 9}
