"""launch.sh of the local launcher, with small Python programs in the place of workers."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from launch_harness import Running, alive, free_ports, started, wait_for

from hexdsl.ir.launch import Check, Launch, Port, Process, Ready
from hexdsl.targets.launchers.local.files import in_order

STAND_IN = str(Path(__file__).parent / "stand_in.py")
NAMES = ("rank-0", "rank-1", "router")


def process(name: str, port: int, *mode: str, **more: object) -> Process:
    url = Ready(url=f"http://127.0.0.1:{port}/health", timeout_s=20)
    fields = {"role": "worker", "host": "here", "argv": ("python", STAND_IN, str(port), *mode), "ready": url}
    return Process.model_validate({"name": name, **fields, **more})


def three(restarts: int = 0, **checks: object) -> Launch:
    """Two ranks that live and die together, and a router that waits for the first of them."""
    a, b, c = free_ports(3)
    team = {"group": "replica", "restarts": restarts}
    router = process("router", c, role="router", after=("rank-0",), ports=(Port(host="127.0.0.1", port=c, use="it"),))
    processes = (router, process("rank-0", a, **team), process("rank-1", b, ready=None, **team))
    return Launch.model_validate(
        {"name": "t", "engine": "e", "launcher": "local", "endpoint": "http://e", "processes": processes, **checks}
    )


def family(running: Running) -> list[int]:
    return [pid for name in NAMES for pid in running.pids(name)]


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_a_signal_from_the_terminal_stops_everything(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    with started(three(), tmp_path) as running:
        running.until("ready: http://e")
        pids = family(running)
        assert len(pids) == 6
        assert all(alive(pid) for pid in pids)
        os.killpg(running.process.pid, sent)
        assert running.ends() == code
        assert gone(pids)
        assert running.lines[-2:] == ["hexc: stopping", "hexc: stopped"]


def test_a_signal_during_the_start_stops_what_has_started(tmp_path: Path) -> None:
    launch = three()
    late = launch.processes[1].with_(argv=(*launch.processes[1].argv, "late"))
    with started(launch.with_(processes=(launch.processes[0], late, launch.processes[2])), tmp_path) as running:
        pids = running.pids("rank-0") + running.pids("rank-1")
        running.process.send_signal(signal.SIGINT)
        assert running.ends() == 130
        assert gone(pids)
        assert "starting router" not in running.text


def test_a_process_that_does_not_hear_is_killed(tmp_path: Path) -> None:
    launch = three()
    deaf = launch.processes[1].with_(argv=(*launch.processes[1].argv, "deaf"))
    with started(launch.with_(processes=(launch.processes[0], deaf, launch.processes[2])), tmp_path) as running:
        running.until("ready: ")
        pids = family(running)
        running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 0
        wait_for(lambda: gone(pids), lambda: "the deaf one lives")


def test_a_death_ends_everything_and_is_named(tmp_path: Path) -> None:
    with started(three(), tmp_path) as running:
        running.until("ready: ")
        pids = family(running)
        os.kill(running.pids("rank-1")[0], signal.SIGKILL)
        assert running.ends() == 5
        assert gone(pids)
        assert "hexc: rank-1 died (exit code 137)" in running.lines
        assert f"  | pids {running.pids('rank-1')[0]} {running.pids('rank-1')[1]}" in running.lines
        assert "rank-0 died" not in running.text


def test_a_team_is_started_again_as_often_as_it_may(tmp_path: Path) -> None:
    with started(three(restarts=1), tmp_path) as running:
        running.until("ready: ")
        before = {name: running.pids(name) for name in NAMES}
        os.kill(before["rank-1"][0], signal.SIGKILL)
        running.until("rank-0 is ready", times=2)
        after = {name: running.pids(name) for name in NAMES}
        assert gone(before["rank-0"] + before["rank-1"])
        assert all(alive(pid) for pid in family(running))
        assert after["router"] == before["router"]
        os.kill(after["rank-0"][0], signal.SIGKILL)
        assert running.ends() == 5
        assert gone([pid for pids in after.values() for pid in pids])


def test_a_replica_is_spared_while_another_serves(tmp_path: Path) -> None:
    a, b, c = free_ports(3)
    router = process("router", c, role="router", after=("one", "two"))
    replicas = tuple(process(name, port, group=name) for name, port in (("one", a), ("two", b)))
    launch = Launch.model_validate(
        {"name": "t", "engine": "e", "launcher": "local", "endpoint": "http://e", "processes": (router, *replicas)}
    )
    with started(launch, tmp_path) as running:
        running.until("ready: ")
        pids = {name: running.pids(name) for name in ("one", "two", "router")}
        os.kill(pids["one"][0], signal.SIGKILL)
        running.until("going on without one")
        assert all(alive(pid) for pid in (*pids["two"], *pids["router"]))
        for _ in range(100):
            if gone(pids["one"]):
                break
            time.sleep(0.1)  # a process that was killed is there until the system has taken it down
        assert gone(pids["one"])
        os.kill(pids["two"][0], signal.SIGKILL)
        assert running.ends() == 5
        assert gone([pid for family in pids.values() for pid in family])


def test_no_orphans_when_the_script_is_killed(tmp_path: Path) -> None:
    with started(three(), tmp_path) as running:
        running.until("ready: ")
        pids = family(running)
        os.killpg(running.process.pid, signal.SIGKILL)
        wait_for(lambda: gone(pids), lambda: "orphans remain")


def test_a_process_that_is_never_ready_ends_it(tmp_path: Path) -> None:
    launch = three()
    ready = Ready(url=launch.processes[1].ready.url, timeout_s=1) if launch.processes[1].ready else None
    late = launch.processes[1].with_(argv=(*launch.processes[1].argv, "late"), ready=ready)
    with started(launch.with_(processes=(launch.processes[0], late, launch.processes[2])), tmp_path) as running:
        pids = running.pids("rank-0")
        assert running.ends() == 5
        assert "rank-0 was not ready within 1 s" in running.text
        assert gone(pids)


def test_the_router_starts_when_the_replica_is_ready(tmp_path: Path) -> None:
    with started(three(), tmp_path) as running:
        running.until("ready: ")
        said = [line.removeprefix("hexc: ") for line in running.lines]
    first = next(line for line in said if line.startswith("rank-0 is ready"))
    assert said.index("starting rank-1") < said.index(first) < said.index("starting router")


CHECKS = [
    Check(kind="folder", value="/no/such\nfolder", message="no folder"),
    Check(kind="file", value="~/no such file", message="no file"),
    Check(kind="python", value="raise SystemExit(3)", message="no modules"),
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_missing_prerequisite_is_told_before_anything_starts(tmp_path: Path, check: Check) -> None:
    with started(three(checks=(check,)), tmp_path) as running:
        assert running.ends() == 2
        assert running.lines == ["hexc: checking what the plan needs", f"hexc: {check.message}"]


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    launch = three()
    with socket.create_server(("127.0.0.1", launch.processes[0].ports[0].port)), started(launch, tmp_path) as running:
        assert running.ends() == 2
        assert "(it) is taken" in running.text
        assert not list(tmp_path.glob("logs/*.log"))


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with started(three(), tmp_path, "no-such-python") as running:
        assert running.ends() == 2
        assert running.lines == ["hexc: there is no no-such-python: set HEXC_PYTHON to a Python with hexdsl"]


def test_a_bundle_runs_once_at_a_time_and_again_afterwards(tmp_path: Path) -> None:
    launch = three()
    with started(launch, tmp_path) as first:
        first.until("starting rank-0")
        with started(launch, tmp_path) as second:
            assert second.ends() == 2
            assert "is running already" in second.text
        first.until("ready: ")
    time.sleep(0.1)
    with started(launch, tmp_path) as third:
        third.until("ready: ")


def test_processes_that_wait_for_each_other() -> None:
    with pytest.raises(ValueError, match="wait for each other: a, b"):
        in_order((process("a", 1, after=("b",)), process("b", 2, after=("a",)), process("c", 3)))


def test_a_relative_python_is_found(tmp_path: Path) -> None:
    relative = os.path.relpath(sys.executable, "/")
    with started(three(), tmp_path, relative) as running:
        running.until("ready: ")
