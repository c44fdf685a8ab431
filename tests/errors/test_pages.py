"""Every code has a page, and the page's example does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hexdsl.cli import main
from hexdsl.lang.codes import MEANING_CODES, PLAN_CODES, WARNING_CODES
from hexdsl.lang.syntax import SYNTAX_CODES

Told = Callable[[str, str], tuple[int, set[str]]]
FOLDER = Path(__file__).parents[2] / "docs" / "errors"
TITLES = {**SYNTAX_CODES, **MEANING_CODES, **PLAN_CODES, **WARNING_CODES}
CONSOLE = {
    *("S090", "S091"),  # files that are no specs
    *("E003", "E004", "E031", "E140", "E141", "E142", "E143", "E144", "E145", "E160"),  # other files, command line
    *("P006", "P008", "P010", "P011", "P012", "P013", "P015"),  # files, output, engines, a search that takes long
    "W001",  # a note in a plan
}
"""Codes that one spec alone does not bring about: their pages show what a command prints."""


def blocks(code: str, language: str) -> list[str]:
    text = (FOLDER / f"{code}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Exit code and codes of the messages about a text."""
    monkeypatch.chdir(tmp_path)

    def run(command: str, text: str) -> tuple[int, set[str]]:
        Path("spec.hex").write_text(text, encoding="utf-8")
        code = main([command, "spec.hex"])
        return code, set(re.findall(r"^(?:error|warning)\[(\w+)\]", capsys.readouterr().err, re.MULTILINE))

    return run


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(TITLES)


@pytest.mark.parametrize("code", TITLES)
def test_a_page_has_the_title_of_its_code(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"# {code}: {TITLES[code]}\n")
    assert len(page.splitlines()) <= 45
    assert max(map(len, page.splitlines())) <= 120 or code in ("S080", "S081")


@pytest.mark.parametrize("code", sorted(set(TITLES) - CONSOLE))
def test_the_example_shows_this_code_and_no_other(code: str, told: Told) -> None:
    _, shown = told("plan" if code.startswith("P") else "check", blocks(code, "hex")[0])
    assert shown == {code}


@pytest.mark.parametrize("code", [c for c in TITLES if c not in CONSOLE and len(blocks(c, "hex")) > 1])
def test_the_fix_works(code: str, told: Told) -> None:
    assert told("check", blocks(code, "hex")[1]) == (0, set())
    if code.startswith("P"):
        assert code not in told("plan", blocks(code, "hex")[1])[1]


@pytest.mark.parametrize("code", sorted(CONSOLE))
def test_a_page_without_an_example_shows_a_command(code: str) -> None:
    (shown,) = blocks(code, "console")
    assert shown.startswith("$ hexc ")
    assert re.search(rf"^(error\[{code}\]|{code}): ", shown, re.MULTILINE)
