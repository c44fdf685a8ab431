"""The comparisons that the tests of the documents rest on: they notice what is wrong."""

from __future__ import annotations

import json

import pytest
from doc_console import agrees, renewed
from doc_json import misfits, pretty

SAID = "plan of two\n\n  r0  0..39\n  r1 40..79\nverified: all\n"


@pytest.mark.parametrize(
    "shown",
    [
        ["plan of two", "  r0 0..39", "  r1   40..79", "verified: all"],
        ["plan of two", "...", "  r1 40..79", "..."],
        ["...", "verified: ..."],
    ],
)
def test_what_was_said_may_be_shortened(shown: list[str]) -> None:
    assert agrees(shown, SAID)


@pytest.mark.parametrize(
    "shown",
    [
        [],
        ["plan of two", "  r0  0..39"],
        ["plan of two", "  r1 40..79", "verified: all"],
        ["...", "  r1 40..79", "  r0 0..39", "..."],
        ["plan of ten", "..."],
    ],
)
def test_what_was_not_said_is_noticed(shown: list[str]) -> None:
    assert not agrees(shown, SAID)


def test_lines_are_renewed_in_order() -> None:
    old = ["plan of ten", "...", "  r1 30..79", "verified: ..."]
    assert renewed(old, SAID) == ["plan of two", "...", "  r1 40..79", "verified: ..."]


def test_a_sample_may_lack_fields_but_not_have_others() -> None:
    real = {"name": "x", "sizes": [1.5, 2], "ok": True}
    assert misfits({"name": "y", "sizes": [3]}, real) == []
    assert misfits({"nam": "y"}, real) == [".nam does not exist"]
    assert misfits({"sizes": ["3"], "ok": 1}, real) == [".sizes[0] is 1.5", ".ok is True"]


def test_pretty_json_is_the_same_json() -> None:
    value = {"a": [], "long": [{"name": "n" * 40, "size": i} for i in range(4)], "flat": {"x": [1, 2]}}
    text = pretty(value)
    assert json.loads(text) == value
    assert max(map(len, text.splitlines())) <= 100
    assert '  "flat": {"x": [1, 2]}' in text
