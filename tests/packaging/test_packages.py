"""What is installed: every package, its data files, one top-level name; and that it works where nothing else is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOL = PROJECT["tool"]["setuptools"]
SPEC = ROOT / "specs" / "serve" / "quickstart.hex"
BUILD_S, INSTALL_S, COMMAND_S = 120, 300, 60
DATA = {
    "hexdsl/py.typed", "hexdsl/grammar/hex.lark", "hexdsl/std/gpus.hex", "hexdsl/std/models.hex",
    "hexdsl/costs/efficiency.json", "hexdsl/errors/E110.md", "hexdsl/errors/P001.md",
    "hexdsl/report/templates/report.html.j2", "hexdsl/targets/templates/README.md.j2",
    "hexdsl/targets/launchers/local/templates/launch.sh.j2",
}  # fmt: skip


def folders() -> dict[str, Path]:
    """Package to its folder in the checkout."""
    mapped = TOOL["package-dir"]
    found: dict[str, Path] = {}
    for name, folder in mapped.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found[".".join([name, *init.parent.relative_to(ROOT / folder).parts])] = init.parent
    return found


def test_every_package_is_declared() -> None:
    assert set(folders()) == set(TOOL["packages"])


def test_no_package_is_declared_twice() -> None:
    assert len(TOOL["packages"]) == len(set(TOOL["packages"]))


def test_one_top_level_name() -> None:
    assert {name.split(".")[0] for name in TOOL["packages"]} == {"hexdsl"}


def test_every_pattern_of_data_files_matches_something() -> None:
    for package, patterns in TOOL["package-data"].items():
        for pattern in patterns:
            assert list(folders()[package].glob(pattern)), f"{package}: {pattern}"


def data_files() -> Iterator[Path]:
    for folder in TOOL["package-dir"].values():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                yield path


def test_every_data_file_is_declared() -> None:
    declared = {
        path
        for package, patterns in TOOL["package-data"].items()
        for pattern in patterns
        for path in folders()[package].glob(pattern)
    }
    assert set(data_files()) == declared


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel built from it, of a copy of the checkout."""
    copy = tmp_path_factory.mktemp("build") / "hexdsl"
    left_out = shutil.ignore_patterns(".*", "build", "dist", "tests", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=left_out)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(copy.parent / "dist"), "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=BUILD_S)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Package would be ignored" not in done.stdout + done.stderr
    return copy.parent / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


def test_the_wheel_holds_hexdsl_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"hexdsl-{PROJECT['project']['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {"hexdsl", info}
    assert not DATA - names
    modules = {name for name in names if name.startswith("hexdsl/") and name.endswith(".py")}
    expected = {
        "/".join([*package.split("."), path.name])
        for package, folder in folders().items()
        for path in folder.glob("*.py")
    }
    assert modules == expected


def test_the_sdist_holds_what_the_wheel_is_built_from(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "LICENSE", "NOTICE", "README.md", "grammar/hex.lark", "docs/errors/E110.md"} <= names


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a virtual environment that holds the wheel and its core dependencies."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=COMMAND_S)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    done = subprocess.run([*pip, wheel], capture_output=True, text=True, timeout=INSTALL_S)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "bin"


def test_a_fresh_install_compiles(fresh: Path, tmp_path: Path) -> None:
    shutil.copy(SPEC, tmp_path / "spec.hex")
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    env["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    def run(*argv: str) -> str:
        command = [fresh / argv[0], *argv[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=COMMAND_S)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    absent = "import importlib.util as u; print([m for m in ('torch', 'transformers', 'pytest') if u.find_spec(m)])"
    assert run("python", "-c", absent) == "[]\n"
    assert "all well" in run("hexc", "check", "spec.hex")
    assert "Replicas" in run("hexc", "plan", "spec.hex")
    assert "hexc run bundle" in run("hexc", "compile", "spec.hex", "-o", "bundle")
    assert "<!DOCTYPE html>" in run("hexc", "report", "bundle")
    assert "E110" in run("hexc", "explain", "E110")
    subprocess.run(["bash", "-n", tmp_path / "bundle" / "launch.sh"], check=True)
