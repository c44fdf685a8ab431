"""The bash script that starts, watches, restarts and stops the processes of a bundle on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from hexdsl.ir.launch import File, Launch, Process
from hexdsl.targets.templating import Raw, render_shell

TEMPLATE = Path(__file__).parent / "templates" / "launch.sh.j2"
GRACE_S = 10
"""Seconds between SIGTERM and SIGKILL."""


def files(launch: Launch) -> tuple[File, ...]:
    """`launch.sh`."""
    text = render_shell(
        TEMPLATE, launch=launch, processes=in_order(launch.processes), command=command, teams=_teams(launch), grace=GRACE_S
    )
    return (File(path="launch.sh", text=text, executable=True),)


def in_order(processes: Sequence[Process]) -> tuple[Process, ...]:
    """The processes so that each follows those that must be ready before it.  Raises ValueError for a cycle."""
    left, ordered = list(processes), list[Process]()
    while left:
        waiting = {p.name for p in left}
        ready = [p for p in left if waiting.isdisjoint(p.after)]
        if not ready:
            raise ValueError(f"processes wait for each other: {', '.join(sorted(waiting))}")
        ordered += ready
        left = [p for p in left if p not in ready]
    return tuple(ordered)


def command(process: Process) -> Raw:
    """A process's command line, its environment first, broken into lines."""
    variables = [shlex.quote(f"{name}={value}") for name, value in process.env]
    words = [shlex.quote(word) for word in process.argv]
    if process.argv[0] == "python":
        words[0] = '"$python"'
    return Raw(" \\\n        ".join(line for line in (" ".join(["env", "--", *variables]), " ".join(words))))


def _teams(launch: Launch) -> dict[str, int]:
    """Group to restarts; a process without a group is one of its own."""
    return {team_of(process): process.restarts for process in launch.processes}


def team_of(process: Process) -> str:
    return process.group or process.name
