"""The Python API: one import gives everything that a caller needs, errors included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hexdsl

SPEC = "gpu g { memory = 80GB, bandwidth = 2TB/s }\n"


def test_every_name_is_there() -> None:
    assert dir(hexdsl) == sorted(hexdsl.__all__)
    assert all(getattr(hexdsl, name) is not None for name in hexdsl.__all__)
    with pytest.raises(AttributeError, match="has no attribute `lode`"):
        hexdsl.lode  # noqa: B018


@pytest.mark.parametrize("kind", [hexdsl.UsageError, hexdsl.NoPlanError, hexdsl.LimitError])
def test_every_error_of_a_user_is_a_spec_error(kind: type[Exception]) -> None:
    assert issubclass(kind, hexdsl.SpecError)


def test_a_wrong_spec_raises_with_its_messages() -> None:
    with pytest.raises(hexdsl.SpecError) as error:
        hexdsl.load_text(SPEC.replace("80GB", "80"))
    (found,) = error.value.diagnostics
    assert isinstance(found, hexdsl.Diagnostic)
    assert found.code == "E110"


def test_a_missing_file_raises_a_usage_error_and_check_returns_it(tmp_path: Path) -> None:
    with pytest.raises(hexdsl.UsageError):
        hexdsl.load(tmp_path / "none.hex")
    assert [d.code for d in hexdsl.check(tmp_path / "none.hex")] == ["E001"]


def test_the_import_alone_loads_neither_pydantic_nor_the_parser() -> None:
    program = "import sys, hexdsl; hexdsl.SpecError; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"pydantic", "lark"} & set(done.stdout.split())
