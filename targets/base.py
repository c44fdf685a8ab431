"""What engines and launchers are: packages that offer these functions under these names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hexdsl.ir.launch import File, Launch
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a plan cannot be run as asked, and what the user may change."""

    text: str
    help: str | None = None


class Engine(Protocol):
    """Plan to process table."""

    def supports(self, plan: Plan, target: Target) -> tuple[Reason, ...]:
        """Every reason why this engine cannot run the plan; empty if it can."""

    def lower(self, plan: Plan, target: Target, folder: Path) -> Launch:
        """The processes and configs of a plan that `supports` has no reason against.

        `folder` is the spec's: paths in the spec are relative to it.
        """


class Launcher(Protocol):
    """Process table to files."""

    def supports(self, plan: Plan, target: Target) -> tuple[Reason, ...]:
        """Every reason why this launcher cannot start the plan; empty if it can."""

    def files(self, launch: Launch, target: Target) -> tuple[File, ...]:
        """The files that start the processes; one of them is `launch.sh`.  `target.launcher` has the user's options."""
