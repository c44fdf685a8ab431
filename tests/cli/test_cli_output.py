"""Streams: JSON everywhere, colours only on a terminal, and readers that go away."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from cli_harness import HEXC, PATIENCE_S, Hexc, executable

EACH = {
    "check": ("check", "small.hex"),
    "plan": ("plan", "small.hex"),
    "compile": ("compile", "small.hex", "-o", "out"),
    "run": ("run", "nothing"),
    "explain": ("explain", "small.hex"),
    "diff": ("diff", "small.hex", "small.hex"),
    "graph": ("graph", "small.hex"),
    "report": ("report", "small.hex", "-o", "page.html"),
    "fmt": ("fmt", "small.hex"),
    "simulate": ("simulate", "small.hex", "--requests", "40", "--seeds", "1"),
    "replan": ("replan", "nothing.json", "--rate", "2x"),
    "estimate": ("estimate", "--model", "llama8b", "--gpu", "H100"),
    "calibrate": ("calibrate", "nothing.csv"),
    "profile": ("profile", "--from", "nothing.csv"),
    "schema": ("schema",),
    "completion": ("completion", "bash"),
    "targets": ("targets",),
    "passes": ("passes",),
}


def test_each_command_is_here() -> None:
    from hexdsl.commands import table

    assert set(EACH) == set(table())


@pytest.mark.parametrize("argv", EACH.values(), ids=EACH)
def test_json_of_each_command(argv: tuple[str, ...], hexc: Hexc, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spec.parent)
    said = hexc(*argv, "--json")
    assert said.code == (2 if any("nothing" in word for word in argv) else 0)
    assert next(iter(said.json)) == "format_version"


@pytest.mark.parametrize("name", sorted(EACH))
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from hexdsl.cli import main

    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: hexc {name}" in capsys.readouterr().out


def on_a_terminal(*argv: str | Path, **env: str) -> str:
    """What the command says on stderr when that is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([HEXC, *argv], stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | env)
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # what Linux says when the other side is closed
            piece = b""
        if not piece:
            break
        said += piece
    os.close(ours)
    process.wait(PATIENCE_S)
    return said.decode()


def test_colour_and_progress_on_a_terminal_only(spec: Path) -> None:
    bad = spec.with_name("bad.hex")
    bad.write_text("let a = ;\n")
    plain = {"NO_COLOR": "", "TERM": "xterm"}
    assert "\x1b[1;31m" in on_a_terminal("check", bad, **plain)
    assert "\x1b" not in on_a_terminal("check", bad, **plain | {"NO_COLOR": "1"})
    assert "\x1b" not in on_a_terminal("check", bad, **plain | {"TERM": "dumb"})
    assert "groups: done" in on_a_terminal("plan", spec, **plain)
    assert on_a_terminal("plan", spec, "--json", **plain) == ""
    executable("check", bad, **plain).tidy()


def shell(command: str, **env: str) -> tuple[str, str]:
    """A bash line; stdout with the exit code of `hexc` as its last line, and stderr."""
    done = subprocess.run(
        ["bash", "-c", f'{command}\necho "${{PIPESTATUS[0]}}"'],
        env=os.environ | {"PATH": f"{HEXC.parent}:{os.environ['PATH']}", **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.stdout, done.stderr


def test_a_reader_that_goes_away() -> None:
    assert shell("hexc schema | head -1") == ("## `gpu`\n0\n", "")


def test_nowhere_to_write(spec: Path) -> None:
    assert shell("hexc schema >/dev/full") == ("2\n", "hexc: the output cannot be written: No space left on device\n")
    assert shell("hexc schema >&-") == ("0\n", "")
    assert shell(f"hexc plan {spec} >&-") == ("0\n", "")
    assert shell("hexc check no.hex 2>&-") == ("2\n", "")


def test_nothing_to_read() -> None:
    assert shell("hexc fmt - <&-")[0] == "2\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_data_is_utf8_in_every_locale(encoding: str, spec: Path) -> None:
    out, err = shell(f"hexc plan {spec}", PYTHONIOENCODING=encoding)
    assert out.endswith("0\n")
    assert "█" in out
    assert err == ""


def test_names_that_are_not_text(tmp_path: Path) -> None:
    done = subprocess.run([HEXC, "check", b"\xff.hex", "--json"], capture_output=True, cwd=tmp_path, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert json.loads(done.stdout)["diagnostics"][0]["code"] == "E001"
