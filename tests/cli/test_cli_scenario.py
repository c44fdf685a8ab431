"""`hexc simulate` with a trace, another load, and failures: what is played, and what is said of bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hexdsl.cli import main

SPECS = Path(__file__).parents[2] / "specs" / "serve"
SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster box { nodes a { gpus = 2 * L4 } }
workload load { LOAD }
serve s { model = llama1b, on = box, workload = load, replicas = 2, maximize goodput }
"""
ROWS = "".join(f"{i / 4},{200 + i % 7},{20 + i % 5}\n" for i in range(100))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trace of four requests a second, and a plan for it."""
    monkeypatch.chdir(tmp_path)
    Path("day.csv").write_text("arrival,prompt,output\n" + ROWS, encoding="utf-8")
    Path("odd.csv").write_text("t,in,out\n" + ROWS, encoding="utf-8")
    Path("a.hex").write_text(SPEC.replace("LOAD", 'trace = "day.csv"'), encoding="utf-8")
    assert main(["plan", "a.hex", "--save", "plan.json"]) == 0
    return tmp_path


@pytest.fixture
def play(folder: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """The JSON of a simulation with some options."""

    def run(*options: str, subject: str = "plan.json") -> dict:  # type: ignore[type-arg]
        capsys.readouterr()
        assert main(["simulate", subject, "--json", *options]) in (0, 3)
        return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]

    return run


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """The message about some options."""

    def run(*options: str) -> str:
        capsys.readouterr()
        assert main(["simulate", "plan.json", *options]) == 2
        return capsys.readouterr().err

    return run


def test_a_plan_replays_its_trace_in_windows(play) -> None:  # type: ignore[no-untyped-def]
    whole, part = play(), play("--requests", "30")
    assert (whole["requests"], whole["seeds"]) == (100, 1)
    assert (part["requests"], part["seeds"]) == (30, 3)
    assert "day.csv`, all of it" in whole["played"]
    assert "3 windows of 30 of its 100 requests" in part["played"]
    assert play(subject="a.hex")["figures"] == whole["figures"]


def test_the_trace_is_found_from_the_folder_that_the_command_runs_in(play) -> None:  # type: ignore[no-untyped-def]
    Path("bundle").mkdir()
    shutil.copy("plan.json", "bundle/plan.json")
    assert play(subject="bundle")["figures"] == play()["figures"]


def test_another_trace_is_played_with_its_columns(play) -> None:  # type: ignore[no-untyped-def]
    same = play("--trace", "odd.csv", "--columns", "arrival=t,prompt=in,output=out")
    assert same["figures"] == play()["figures"]
    assert "`odd.csv`" in same["played"]


def test_a_moved_trace_is_still_that_of_the_plan(play, folder: Path) -> None:  # type: ignore[no-untyped-def]
    before = play()
    Path("elsewhere").mkdir()
    shutil.move("day.csv", "elsewhere/day.csv")
    after = play("--trace", "elsewhere/day.csv")
    assert after["figures"] == before["figures"]
    assert "another load" not in after["played"]


def test_the_rate_is_scaled(play) -> None:  # type: ignore[no-untyped-def]
    found = play("--rate", "2x")
    assert "8req/s on average" in found["played"]
    assert found["slice_s"] < 0.7 * play()["slice_s"]  # the run is shorter


def test_a_failed_replica_serves_no_more(play) -> None:  # type: ignore[no-untyped-def]
    def share(found: dict) -> float:  # type: ignore[type-arg]
        done = {r["replica"]: r["requests"] for r in found["replicas"]}
        return done["r0"] / sum(done.values())  # type: ignore[no-any-return]

    usual, failed = play(), play("--fail", "r0@5s")
    assert share(failed) < 0.5 * share(usual)
    assert share(failed) < share(play("--fail", "r0@5s+5s")) < share(usual)
    assert "r0 fails at 5 s and stays away" in failed["played"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--fail", "r9@5s"), "E020"),
        (("--fail", "r0"), "E004"),
        (("--fail", "r0@5"), "E110"),
        (("--fail", "r0@5parsecs"), "E112"),
        (("--fail", "r0@1h"), "E113"),
        (("--rate", "2"), "E113"),
        (("--rate", "0x"), "E113"),
        (("--columns", "prompt=in"), "E004"),
        (("--trace", "odd.csv", "--columns", "in"), "E004"),
        (("--trace", "odd.csv"), "E144"),
        (("--trace", "nope.csv"), "E001"),
    ],
)
def test_bad_options_are_refused(refused, options: tuple[str, ...], code: str) -> None:  # type: ignore[no-untyped-def]
    said = refused(*options)
    assert said.startswith(f"error[{code}]")


def test_a_lost_or_changed_trace_is_said_with_what_to_do(refused) -> None:  # type: ignore[no-untyped-def]
    with Path("day.csv").open("a", encoding="utf-8") as file:
        file.write("900,1,1\n")
    assert "is not the trace that was planned for" in refused()
    Path("day.csv").unlink()
    assert "--trace day.csv" in refused()


def test_a_load_without_arrivals_has_no_rate_to_scale(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.hex").write_text(SPEC.replace("LOAD", "prompt = 100tok"), encoding="utf-8")
    assert main(["simulate", "b.hex", "--rate", "2x"]) == 2
    assert "nothing to scale" in capsys.readouterr().err


def test_the_example_is_planned_for_its_trace_and_keeps_its_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(SPECS / "trace.hex"), "--json"]) == 0
    assert "helpdesk.csv`, all of it" in json.loads(capsys.readouterr().out)["played"]
