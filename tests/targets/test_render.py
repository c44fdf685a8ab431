"""Bundles on disk: golden cases, and that a bundle is written whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hexdsl.ir.diagnostic import UsageError
from hexdsl.ir.launch import File, Launch
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.registry import lower
from hexdsl.targets.render import bundle_files, is_bundle, render

CASES = Path(__file__).parent.parent / "bundles"
SHELLCHECK = Path(sys.executable).parent / "shellcheck"


@pytest.fixture
def launch(uneven: Plan) -> Launch:
    return lower(uneven, Target(name="torch"), Path("/specs"))


GOLDEN = [("uneven", "torch"), ("gpus", "torch"), ("uneven", "vllm"), ("gpus", "vllm"), ("halves", "vllm")]


def case_of(name: str, engine: str) -> Path:
    return CASES / (name if engine == "torch" else f"{engine}_{name}")


@pytest.mark.parametrize(("name", "engine"), GOLDEN)
def test_bundles_are_as_they_were(
    name: str, engine: str, request: pytest.FixtureRequest, golden: Callable[[Path, str], None], tmp_path: Path
) -> None:
    plan: Plan = request.getfixturevalue(name)
    launch = lower(plan, Target(name=engine, restarts=2 if name == "gpus" else 0), Path("/specs"))
    render(plan, launch, tmp_path / "out")
    written = {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written == {Path(file.path) for file in bundle_files(plan, launch)}
    for path in sorted(written):
        golden(case_of(name, engine) / path, (tmp_path / "out" / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "engine"), GOLDEN)
def test_shellcheck_finds_nothing(name: str, engine: str) -> None:
    scripts = sorted(case_of(name, engine).rglob("*.sh"))
    assert subprocess.run([SHELLCHECK, *scripts], capture_output=True, text=True).stdout == ""
    assert all(subprocess.run(["bash", "-n", script]).returncode == 0 for script in scripts)


def test_launch_json_is_the_process_table(launch: Launch, uneven: Plan, tmp_path: Path) -> None:
    render(uneven, launch, tmp_path / "out")
    read = Launch.model_validate_json((tmp_path / "out" / "launch.json").read_text())
    assert read == launch.with_(files=())
    assert Plan.model_validate_json((tmp_path / "out" / "plan.json").read_text()).digest() == uneven.digest()
    assert (tmp_path / "out" / "launch.sh").stat().st_mode & 0o100
    assert next(iter(json.loads((tmp_path / "out" / "launch.json").read_text()))) == "format_version"


def test_times_stay_beside_the_plan(launch: Launch, uneven: Plan, tmp_path: Path) -> None:
    render(uneven, launch, tmp_path / "a")
    render(uneven, launch, tmp_path / "b", timings={"groups": 0.25})
    assert json.loads((tmp_path / "b" / "timings.json").read_text()) == {"groups": 0.25}
    (tmp_path / "b" / "timings.json").unlink()
    same = [[f.read_bytes() for f in sorted((tmp_path / x).rglob("*")) if f.is_file()] for x in "ab"]
    assert same[0] == same[1]


def test_a_folder_is_made_where_there_was_none_or_an_empty_one(launch: Launch, uneven: Plan, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "deep" / "er"):
        render(uneven, launch, out)
        assert is_bundle(out)
        assert [p.name for p in out.parent.iterdir() if p.name.startswith(".")] == []


def test_a_bundle_is_replaced_only_by_force(launch: Launch, uneven: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(uneven, launch, out)
    (out / "mine.txt").write_text("kept unless forced")
    with pytest.raises(UsageError) as error:
        render(uneven, launch, out)
    assert error.value.diagnostics[0].help == "`--force` replaces it"
    assert (out / "mine.txt").exists()
    render(uneven, launch, out, force=True)
    assert not (out / "mine.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("content", ["hello", '{"format_version": "0.1"}', "[]"])
def test_another_folder_is_never_replaced(launch: Launch, uneven: Plan, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("plan.json", "launch.json"):
        (out / name).write_text(content)
    with pytest.raises(UsageError, match="not a bundle") as error:
        render(uneven, launch, out, force=True)
    assert error.value.diagnostics[0].code == "P010"
    assert (out / "plan.json").read_text() == content


def test_places_that_cannot_be_written(
    launch: Launch, uneven: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    for out in (tmp_path / "file", tmp_path / "file" / "under", Path("/proc/hexc"), Path()):
        with pytest.raises(UsageError) as error:
            render(uneven, launch, out)
        assert error.value.diagnostics[0].code == "P010"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_nothing_is_left_of_a_bundle_that_failed(launch: Launch, uneven: Plan, tmp_path: Path) -> None:
    outside = launch.with_(files=(*launch.files, File(path="config/../../outside", text="x")))
    with pytest.raises(ValueError, match="outside the bundle"):
        render(uneven, outside, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
