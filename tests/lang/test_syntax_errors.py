"""Golden cases of syntax errors: `tests/syntax/NAME.hex` and the text that hexc prints for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hexdsl.ir.diagnostic import SpecError
from hexdsl.lang.diagnostics import render
from hexdsl.lang.source import MAX_BYTES, Source, decode
from hexdsl.lang.syntax import SYNTAX_CODES, parse

Golden = Callable[[Path, str], None]
CASES = Path(__file__).parent.parent / "syntax"
NAMES = sorted(path.stem for path in CASES.glob("*.hex"))


def told(data: bytes, name: str) -> str:
    sources: dict[str, Source] = {}
    try:
        sources[name] = Source(name, decode(data, name))
        parse(sources[name])
    except SpecError as error:
        return render(error.diagnostics, sources) + "\n"
    pytest.fail(f"{name} has no syntax error")


@pytest.mark.parametrize("name", NAMES)
def test_message(name: str, golden: Golden) -> None:
    golden(CASES / f"{name}.txt", told((CASES / f"{name}.hex").read_bytes(), f"{name}.hex"))


def test_message_of_a_file_too_large(golden: Golden) -> None:
    golden(CASES / "too_large.txt", told(b"#" * (MAX_BYTES + 1), "too_large.hex"))


def test_every_code_has_a_case_and_every_case_its_code() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in CASES.glob("*.txt"))
    assert set(re.findall(r"^error\[(\w+)\]", texts, re.MULTILINE)) == set(SYNTAX_CODES)


def test_no_line_is_reported_twice() -> None:
    text = told((CASES / "many.hex").read_bytes(), "many.hex")
    places = re.findall(r"--> \S+?:(\d+):", text)
    assert len(places) == len(set(places)) == 16


def test_at_most_twenty() -> None:
    text = told(b"let a = 1 2\n" * 50, "a.hex")
    assert text.count("error[S019]") == 20
