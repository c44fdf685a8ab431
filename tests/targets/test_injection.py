"""Whatever a spec holds reaches the processes as it is written, and is never run by the shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launch_harness import Running, wait_for

from hexdsl.ir.plan import Decision, Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.engines.torch.place import served
from hexdsl.targets.registry import lower
from hexdsl.targets.render import render
from hexdsl.targets.templating import code, one_line, render_shell, shell_path

SHELLCHECK = Path(sys.executable).parent / "shellcheck"
EVIL = (
    "$(touch hacked)",
    "`touch hacked`",
    "'; touch hacked; '",
    '"; touch hacked; "',
    "a\ntouch hacked\n#",
    "${HOME}/$USER *?[a]{b,c}!!",
    "\\",
    "--help",
    "-S touch hacked",
    "\r\x1b]0;title\x07\u2028touch hacked",
    "{{ 7 * 7 }}{% raw %}",
    "<script>|",
)

RECORDER = """#!{python}
import json, os, sys, time
arguments = sys.argv[1:]
if arguments[:1] == ["-m"] and arguments[1] != "hexdsl.runtime.ready":
    with open(os.path.join({seen!r}, f"{{os.getpid()}}.json"), "w") as file:
        json.dump({{"arguments": arguments, "env": dict(os.environ), "cwd": os.getcwd()}}, file)
    os.rename(file.name, file.name + ".done")
    time.sleep(60)
"""


def poisoned(plan: Plan, evil: str) -> tuple[Plan, Target]:
    """The plan with a text in every place that a spec or a machine-made plan can fill freely."""
    model = served(plan).with_(name=evil, path=f"models/{evil}")
    replica = plan.replicas[0].with_(name=evil)
    changed = plan.with_(
        name=evil,
        workflow=plan.workflow.with_(model=model, name=evil),
        machines=tuple(m.with_(host=evil) for m in plan.machines),
        replicas=(replica,),
        routes=(plan.routes[0].with_(replica=evil),),
        decisions=(Decision(by=evil, what=evil, choice=evil, reason=evil),),
        notes=(evil,),
    )
    return changed, Target(name="torch", env={"TITLE": evil, "OTHER": f"x{evil}"})


def recorder(tmp_path: Path) -> tuple[Path, Path]:
    """A program in the place of Python that writes down what it is called with."""
    seen = tmp_path / "seen"
    seen.mkdir()
    program = tmp_path / "recorder"
    program.write_text(RECORDER.format(python=sys.executable, seen=str(seen)))
    program.chmod(0o755)
    return program, seen


def records(seen: Path) -> list[Any]:
    wait_for(lambda: len(list(seen.glob("*.done"))) == 3, lambda: "the processes did not start")
    return sorted((json.loads(path.read_text()) for path in seen.glob("*.done")), key=lambda r: r["arguments"])


@pytest.mark.parametrize("evil", EVIL)
def test_texts_reach_the_processes_unchanged(evil: str, uneven: Plan, tmp_path: Path) -> None:
    plan, target = poisoned(uneven, evil)
    specs, out = tmp_path / "specs", tmp_path / "out"
    folder = Path(os.path.normpath(specs / "models" / evil))
    folder.mkdir(parents=True)
    render(plan, lower(plan, target, specs), out)
    program, seen = recorder(tmp_path)
    running = Running(out, str(program))
    try:
        found = records(seen)
    finally:
        running.process.terminate()
        assert running.ends() == 0
    assert [r["arguments"][1] for r in found] == ["hexdsl.runtime.router", *["hexdsl.runtime.worker"] * 2]
    assert {(r["env"]["TITLE"], r["env"]["OTHER"]) for r in found} == {(evil, f"x{evil}")}
    assert {r["cwd"] for r in found} == {str(out)}
    config = json.loads((out / "config" / "replica-0.json").read_text())
    assert (config["replica"], config["model"]["name"], config["model"]["path"]) == (evil, evil, str(folder))
    assert list(tmp_path.rglob("hacked")) == []


@pytest.mark.parametrize("evil", EVIL)
def test_the_script_stays_clean(evil: str, uneven: Plan, tmp_path: Path) -> None:
    plan, target = poisoned(uneven, evil)
    render(plan, lower(plan, target, tmp_path), tmp_path / "out")
    command = [str(SHELLCHECK), "--severity=warning", str(tmp_path / "out" / "launch.sh")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""


@pytest.mark.parametrize("evil", EVIL)
def test_a_comment_cannot_be_left(evil: str) -> None:
    assert len(one_line(evil).splitlines()) <= 1
    assert one_line(evil).isprintable()


@pytest.mark.parametrize("evil", EVIL)
def test_a_value_is_one_word(evil: str, tmp_path: Path) -> None:
    template = tmp_path / "t.j2"
    template.write_text("printf '<%s>' {{ value }}")
    done = subprocess.run(["bash", "-c", render_shell(template, value=evil)], capture_output=True, cwd=tmp_path)
    assert done.stdout.decode() == f"<{evil}>"


@pytest.mark.parametrize("path", ["~", "~/a b", "~root/$(touch hacked)", "~/'x'", "~+/a", "a~/b", "~;touch hacked"])
def test_only_a_home_folder_is_expanded(path: str, tmp_path: Path) -> None:
    command = ["bash", "-c", f"printf %s {shell_path(path)}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == os.path.expanduser(path)
    assert list(tmp_path.iterdir()) == []


def test_code_in_a_page_ends_where_it_should() -> None:
    assert code("a`b\nc") == "`a b c`"
