"""Starting a bundle's launch.sh in a test and looking at what runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hexdsl.ir.launch import Launch
from hexdsl.ir.spec.target import Target
from hexdsl.targets.launchers.local.files import files

PATIENCE_S = 30


class Running:
    """A launch.sh that runs: its lines as they come, its exit code."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [str(folder / "launch.sh")],
            cwd="/",
            env=os.environ | {"HEXC_PYTHON": python},
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def until(self, words: str, times: int = 1) -> None:
        """Waits until some words were said so many times."""
        wait_for(lambda: self.text.count(words) >= times, lambda: f"no `{words}` in:\n{self.text}")

    def ends(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def pids(self, name: str) -> list[int]:
        """The process of this name that was started last, and its child."""
        path = self.folder / "logs" / f"{name}.log"
        wait_for(lambda: path.exists() and "pids" in path.read_text(), lambda: f"{name} did not start")
        last = [line for line in path.read_text().splitlines() if line.startswith("pids")][-1]
        return [int(word) for word in last.split()[1:]]


def write(launch: Launch, folder: Path, grace_s: int = 2) -> Path:
    """The bundle's script in a folder, less patient than the real one."""
    for file in files(launch, Target(name="torch")):
        (folder / file.path).write_text(file.text.replace("grace=10 ", f"grace={grace_s} "))
        (folder / file.path).chmod(0o755)
    return folder


@contextlib.contextmanager
def started(launch: Launch, folder: Path, python: str = sys.executable) -> Iterator[Running]:
    """A running bundle; whatever is left of it afterwards is killed."""
    running = Running(write(launch, folder), python)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
        running.ends()


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], otherwise: Callable[[], str], seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def ports_in_a_row(count: int) -> int:
    """The first of some ports that follow each other and are all free now."""
    for first in range(20000, 60000, count):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")
