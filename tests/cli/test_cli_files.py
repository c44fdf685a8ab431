"""What hexc writes: whole or not at all, and never over something that is not its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_harness import HEXC, PATIENCE_S, Hexc, executable

UGLY = "let   a=1\n\n\n\nlet b   =  2\n"
PRETTY = "let a = 1\n\nlet b = 2\n"


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def ugly(tmp_path: Path) -> Path:
    path = tmp_path / "ugly.hex"
    path.write_text(UGLY)
    return path


def test_fmt_in_place(hexc: Hexc, ugly: Path) -> None:
    ugly.chmod(0o640)
    said = hexc("fmt", ugly)
    assert (said.code, said.out, said.err) == (0, "", f"formatted: {ugly}\n")
    assert ugly.read_text() == PRETTY
    assert ugly.stat().st_mode & 0o777 == 0o640
    assert hexc("fmt", ugly).err == ""
    assert list(files(ugly.parent)) == ["ugly.hex"]


@pytest.mark.parametrize("option", ["--check", "--diff"])
def test_fmt_that_changes_nothing(option: str, hexc: Hexc, ugly: Path) -> None:
    said = hexc("fmt", option, ugly)
    assert (said.code, said.err) == (1, f"would change: {ugly}\n")
    assert ("-let   a=1\n+let a = 1\n" in said.out) == (option == "--diff")
    assert hexc("fmt", option, ugly, "--json").json["changed"] == [str(ugly)]
    assert ugly.read_text() == UGLY
    hexc("fmt", ugly)
    assert hexc("fmt", option, ugly).code == 0


def test_fmt_of_stdin() -> None:
    for argv, code, out in ((["-"], 0, PRETTY), (["--check", "-"], 1, "")):
        done = subprocess.run([HEXC, "fmt", *argv], input=UGLY, capture_output=True, text=True, timeout=PATIENCE_S)
        assert (done.returncode, done.stdout) == (code, out)


def test_fmt_writes_nothing_after_an_error(hexc: Hexc, ugly: Path) -> None:
    for name in ("one.hex", "two.hex"):
        ugly.with_name(name).write_text("let a = ;\n")
    said = hexc("fmt", ugly, ugly.with_name("one.hex"), ugly.with_name("two.hex"))
    assert said.code == 1
    assert said.err.count("error[S004]") == 2
    assert " 1 | let a = ;" in said.err
    assert ugly.read_text() == UGLY


def test_fmt_follows_links(hexc: Hexc, ugly: Path) -> None:
    link = ugly.with_name("link.hex")
    link.symlink_to(ugly)
    assert hexc("fmt", link).code == 0
    assert link.is_symlink()
    assert ugly.read_text() == PRETTY


def test_fmt_of_a_file_that_cannot_be_written(hexc: Hexc, ugly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    said = hexc("fmt", ugly)
    assert said.code == 2
    assert "error[E003]" in said.err
    assert files(ugly.parent) == {"ugly.hex": UGLY.encode()}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_write_protection_is_respected(hexc: Hexc, ugly: Path) -> None:
    ugly.chmod(0o444)
    assert hexc("fmt", ugly).code == 2
    assert ugly.read_text() == UGLY


def test_saving_to_a_device_leaves_it_a_device(hexc: Hexc, spec: Path) -> None:
    assert hexc("plan", spec, "--save", "/dev/null").code == 0
    assert hexc("report", spec, "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_an_earlier_bundle_needs_force(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    assert hexc("compile", spec, "-o", tmp_path / "out").code == 0
    (tmp_path / "out" / "logs").mkdir()
    before = files(tmp_path / "out")
    refused = hexc("compile", spec, "-D", "rate=0.2req/s", "-o", tmp_path / "out")
    assert refused.code == 2
    assert "--force" in refused.err
    assert files(tmp_path / "out") == before
    assert hexc("compile", spec, "-D", "rate=0.2req/s", "-o", tmp_path / "out", "--force").code == 0
    assert files(tmp_path / "out").keys() == before.keys()
    assert files(tmp_path / "out") != before


def test_a_spec_that_turned_bad_leaves_the_bundle(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    hexc("compile", spec, "-o", tmp_path / "out")
    before = files(tmp_path / "out")
    assert hexc("compile", spec, "-D", "slowest=1ms", "-o", tmp_path / "out", "--force").code == 3
    assert files(tmp_path / "out") == before


KILLED = """
import os, signal, sys
from pathlib import Path
from hexdsl.cli import main

written = Path.write_text
def write(path, *rest, **more):
    if path.name == "launch.sh":
        os.kill(os.getpid(), signal.SIGKILL)
    return written(path, *rest, **more)
Path.write_text = write
main(sys.argv[1:])
"""


def test_killed_in_the_middle_of_writing(hexc: Hexc, spec: Path, tmp_path: Path) -> None:
    argv = ["compile", str(spec), "-o", str(tmp_path / "out")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *argv], timeout=PATIENCE_S)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    hexc(*argv)
    before = files(tmp_path / "out")
    subprocess.run([sys.executable, "-c", KILLED, *argv, "--force", "-D", "rate=0.2req/s"], timeout=PATIENCE_S)
    assert files(tmp_path / "out") == before


def test_interrupted(hexc: Hexc, spec: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hexdsl.emit.render", interrupt)
    said = hexc("compile", spec, "-o", tmp_path / "out")
    said.tidy()
    assert said.code == 130
    assert not (tmp_path / "out").exists()


def test_a_bug_is_told_as_a_bug(hexc: Hexc, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("one / none")

    monkeypatch.setattr("hexdsl.pipeline.plan_spec", fail)
    monkeypatch.delenv("HEXC_DEBUG", raising=False)
    said = hexc("plan", spec)
    said.tidy()
    assert (said.code, said.out) == (70, "")
    assert "bug in hexc" in said.err
    monkeypatch.setenv("HEXC_DEBUG", "1")
    assert "Traceback" in hexc("plan", spec).err


def broken_bundle(spec: Path, tmp_path: Path) -> Path:
    """A bundle whose weights are an empty folder, so that its processes die as soon as they look."""
    (spec.parent / "models" / "smollm").mkdir(parents=True)
    assert executable("compile", spec, "-o", tmp_path / "out").code == 0
    return tmp_path / "out"


def test_run_ends_with_5_when_a_child_dies(spec: Path, tmp_path: Path) -> None:
    said = executable("run", broken_bundle(spec, tmp_path), cwd=Path("/"), OMP_NUM_THREADS="1")
    said.tidy()
    assert said.code == 5, said.err
    assert "died" in said.err


def test_run_ends_with_130_on_ctrl_c(spec: Path, tmp_path: Path) -> None:
    running = subprocess.Popen(
        [HEXC, "run", broken_bundle(spec, tmp_path)], stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert running.stderr is not None
    assert any("starting" in line for line in running.stderr)
    os.killpg(running.pid, signal.SIGINT)
    rest = running.stderr.read()
    assert running.wait(PATIENCE_S) == 130, rest
