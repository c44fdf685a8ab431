"""From a plan to the process table and files of its bundle: the engine's part, then the launcher's."""

from __future__ import annotations

from pathlib import Path

from hexdsl.ir.diagnostic import Diagnostic, SpecError
from hexdsl.ir.launch import Launch
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.registry import engine, launcher


def lower(plan: Plan, target: Target, folder: Path) -> Launch:
    """The process table with all files.  `folder` is the spec's, absolute.

    Raises UsageError (P011) for an unknown engine or launcher, SpecError (P012) where they cannot run the plan.
    """
    by, start = engine(target.name), launcher(target.launcher.kind)
    against = [(f"engine `{target.name}`", r) for r in by.supports(plan, target)]
    against += [(f"launcher `{target.launcher.kind}`", r) for r in start.supports(plan, target)]
    if against:
        raise SpecError([Diagnostic("P012", f"{who} cannot run this plan: {r.text}", (), r.help) for who, r in against])
    launch = by.lower(plan, target, folder)
    return launch.with_(files=(*launch.files, *start.files(launch)))
