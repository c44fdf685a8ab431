"""Golden files and the settings that all tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

if importlib.util.find_spec("hexdsl.passes") is None:
    pytest.exit("hexdsl is not installed from this checkout; run: pip install -e .", returncode=4)

settings.register_profile("hexc", derandomize=True, deadline=None, database=None)
settings.load_profile("hexc")

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite golden files instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update") and os.environ.get("CI"):
        raise pytest.UsageError("golden files are never rewritten in CI")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a text with the file at a path, or writes it there under `--update`."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no golden file {path.name}; look at the output, then run pytest --update"
        assert text == path.read_text(encoding="utf-8")

    return check
