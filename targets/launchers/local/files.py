"""The bash script that starts, watches, restarts and stops the processes of a bundle on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from hexdsl.ir.launch import File, Launch, Process
from hexdsl.ir.spec.target import Target
from hexdsl.targets.templating import Raw, render_shell

TEMPLATE = Path(__file__).parent / "templates" / "launch.sh.j2"
GRACE_S = 10
"""Seconds between SIGTERM and SIGKILL."""


def files(launch: Launch, target: Target) -> tuple[File, ...]:
    """`launch.sh`; this launcher has no options of its own in `target`."""
    processes = in_order(launch.processes)
    teams = {team_of(process): process.restarts for process in processes}
    values = {"processes": processes, "teams": teams, "team_of": team_of, "command": command, "grace": GRACE_S}
    values["spare"] = replicas(processes)
    text = render_shell(TEMPLATE, launch=launch, **values)
    return (File(path="launch.sh", text=text, executable=True),)


def replicas(processes: Sequence[Process]) -> tuple[str, ...]:
    """The teams behind a router: the service goes on while one of them is left."""
    if all(p.role != "router" for p in processes):
        return ()
    return tuple(dict.fromkeys(team_of(p) for p in processes if p.role == "worker"))


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
    return Raw(" ".join(["env", "--", *variables, "\\\n       ", *words]))


def team_of(process: Process) -> str:
    """The group that a process lives and dies with; without one it is its own."""
    return process.group or process.name
