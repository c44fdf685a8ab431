"""From a plan to a bundle on disk: the engine lowers it, the launcher writes its files."""

from __future__ import annotations

from pathlib import Path

from hexdsl.ir.launch import Launch
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.registry import lower
from hexdsl.targets.render import render


def emit(plan: Plan, out: Path, folder: Path, engine: str | None, force: bool) -> Launch:
    """Writes the bundle of a plan.  Raises UsageError (P010, P011) or NoPlanError (P012)."""
    launch = lower(plan, target_of(plan, engine), folder)
    render(plan, launch, out, force=force)
    return launch


def target_of(plan: Plan, engine: str | None) -> Target:
    """The target that is meant: the named engine's, else the spec's first, else torch on this machine."""
    targets = plan.workflow.target
    if engine is None:
        return targets[0] if targets else Target(name="torch")
    return next((t for t in targets if t.name == engine), Target(name=engine))
