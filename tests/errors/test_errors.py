"""Golden cases of wrong specs: `tests/errors/NAME.hex`, and in NAME.txt what hexc prints for it and its exit code.

The first line of a case may name another command than `hexc check SPEC`; side files lie in `lib/`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from hexdsl.cli import main
from hexdsl.lang.codes import MEANING_CODES, PLAN_CODES, WARNING_CODES

Golden = Callable[[Path, str], None]
CASES = Path(__file__).parent
NAMES = sorted(path.stem for path in CASES.glob("*.hex"))
ELSEWHERE = {"E143", "P006", "P015", "W001"}
"""Codes that hang on the machine (PyTorch that cannot measure it, a search that takes long), that stand in a plan, or
that are about one that runs."""

PYDANTIC = re.compile(r"[Ii]nput should be|Field required|Extra inputs|Input tag|validation error|\bdict\b|pydantic")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[[str], str]:
    """What the command of a case prints, with its exit code."""
    monkeypatch.chdir(CASES)

    def run(name: str) -> str:
        first = (CASES / f"{name}.hex").read_text(encoding="utf-8").partition("\n")[0]
        command = first.removeprefix("# hexc ") if first.startswith("# hexc ") else "check SPEC"
        words = (w.replace("SPEC", f"{name}.hex").replace("OUT", str(tmp_path / "out")) for w in shlex.split(command))
        code = main([w.replace("\\n", "\n") for w in words])
        said = capsys.readouterr()
        return f"$ hexc {command}\n{said.out}{said.err}exit {code}\n".replace(str(tmp_path / "out"), "OUT")

    return run


@pytest.mark.parametrize("name", NAMES)
def test_message(name: str, told: Callable[[str], str], golden: Golden) -> None:
    text = told(name)
    assert not PYDANTIC.search(text)
    assert "internal error" not in text
    golden(CASES / f"{name}.txt", text)


@pytest.mark.parametrize("name", NAMES)
def test_exit_code_is_that_of_the_language(name: str) -> None:
    text = (CASES / f"{name}.txt").read_text(encoding="utf-8")
    errors = set(re.findall(r"^error\[(\w+)\]", text, re.MULTILINE))
    code = int(text.rstrip().rpartition(" ")[2])
    assert code in (1, 2, 3) if errors else code == 0
    assert all((c[0] == "P") == (code == 3) for c in errors) or code == 2


def test_every_code_has_a_case_and_every_case_its_code() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in CASES.glob("*.txt"))
    shown = set(re.findall(r"^(?:error|warning)\[([EPW]\w+)\]", texts, re.MULTILINE))
    assert shown | ELSEWHERE == {*MEANING_CODES, *PLAN_CODES, *WARNING_CODES}


def test_no_place_is_reported_twice() -> None:
    for name in NAMES:
        text = (CASES / f"{name}.txt").read_text(encoding="utf-8")
        places = re.findall(r"^ +--> (\S+:\d+:\d+)$", text, re.MULTILINE)
        assert len(places) == len(set(places)), name
