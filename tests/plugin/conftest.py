"""A third party's package, installed into a folder of its own beside hexc."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "package"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the package was installed; a copy is built, so that the checkout stays clean."""
    source, folder = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("installed")
    shutil.copytree(PACKAGE, source)
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", f"--target={folder}", source]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=120)
    return folder


@pytest.fixture
def plugin(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, on the path of this process and of those that it starts."""
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    return installed
