"""`slurm`: each process is a step of the Slurm job in which the script runs."""

from __future__ import annotations

import shlex

from hexdsl.ir.launch import File, Launch, Process
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Slurm, Target
from hexdsl.targets.base import Reason

HEAD = """#!/usr/bin/env bash
# Run it inside a job: salloc --nodelist=HOSTS bash launch.sh
set -euo pipefail
"""


def supports(plan: Plan, target: Target) -> tuple[Reason, ...]:
    """It takes no options: the job that it runs in has them."""
    if target.launcher == Slurm():
        return ()
    return (Reason("it takes no options", "write `launcher = slurm`, and give the options to salloc"),)


def files(launch: Launch, target: Target) -> tuple[File, ...]:
    """`launch.sh`: starts every process on its host and ends when they end."""
    lines = (f"{step(process)} &\n" for process in launch.processes)
    return (File(path="launch.sh", text=HEAD + "".join(lines) + "wait\n", executable=True),)


def step(process: Process) -> str:
    """The command line of one process; everything that came from the spec is quoted."""
    variables = [f"{name}={value}" for name, value in process.env]
    words = ["srun", "--ntasks=1", "--overlap", f"--nodelist={process.host}", "env", "--", *variables, *process.argv]
    return shlex.join(words)
