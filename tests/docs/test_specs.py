"""The example specs, and what the README says of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from doc_blocks import ROOT

from hexdsl.api import load
from hexdsl.lang.format import format_text
from hexdsl.lang.source import Source

if TYPE_CHECKING:
    from conftest import Hexc

SPECS = sorted((ROOT / "specs").rglob("*.hex"))
ROW = re.compile(r"^\| [^|]+\| ([^|]+) \| yes \| no \| no \|$", re.MULTILINE)
NOT_PLANNED = [link for row in ROW.findall((ROOT / "README.md").read_text()) for link in re.findall(r"\((.*?)\)", row)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "specs").as_posix()


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_a_spec_is_checked_without_a_message(path: Path) -> None:
    assert load(path).diagnostics == ()


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_a_spec_says_what_it_is_and_has_the_one_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# \S", text)
    assert format_text(Source(path.name, text)) == text


def test_the_readme_names_specs_that_are_not_planned() -> None:
    assert len(NOT_PLANNED) == 4


@pytest.mark.parametrize("link", NOT_PLANNED)
def test_what_the_readme_calls_not_planned_is_refused_by_code(link: str, hexc: Hexc) -> None:
    said = hexc(f"hexc plan {link}")
    assert said.code == 3
    assert re.search(r"error\[P003\]", said.talk)


def test_every_spec_that_is_not_planned_is_named_so() -> None:
    planned = {p for p in SPECS if p.parent.name in ("serve", "pool")}
    assert {name_of(p) for p in SPECS if p not in planned} == {link.removeprefix("specs/") for link in NOT_PLANNED}
