"""`hexc plan`, `hexc compile`, `hexc run`."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hexdsl.commands.base import Output, as_json, save_file, spec_of, warnings
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.plan import Plan
from hexdsl.ir.values import suggestion
from hexdsl.lang.resolve import Loaded

if TYPE_CHECKING:
    from hexdsl.passes.base import Pass


def plan_command(args: argparse.Namespace) -> Output:
    """Plans a spec and prints the plan, or the frontier of plans."""
    from hexdsl.commands.pareto import alone, pareto_command
    from hexdsl.report.text import plan_text

    alone(args)
    if args.pareto:
        return pareto_command(args)
    loaded = spec_of(args, args.spec)
    watch = Watch(args)
    made = planned(loaded, args, watch)
    if args.save:
        save_file(Path(args.save), plan_json(made))
    talk = watch.talk(warnings(loaded, args))
    return Output(data=watch.printed or (plan_json(made) if args.json else plan_text(made, args.width)), talk=talk)


def compile_command(args: argparse.Namespace) -> Output:
    """Plans a spec and writes the bundle."""
    from hexdsl.emit import emit

    loaded = spec_of(args, args.spec)
    watch = Watch(args)
    made = planned(loaded, args, watch)
    launch = emit(made, Path(args.out), loaded.folder, args.target, args.force)
    replicas = f"{len(made.replicas)} replica{'s' * (len(made.replicas) > 1)}"
    start = f"hexc run {shlex.quote(args.out)}"
    text = f"{args.out}: {replicas} in {len(launch.processes)} processes; start it with: {start}"
    summary = as_json({"format_version": "1.0", "bundle": args.out, "digest": made.digest()}) if args.json else ""
    return Output(data=watch.printed or summary, talk=watch.talk(warnings(loaded, args), text))


def run_command(args: argparse.Namespace) -> Output:
    """Launches a bundle and waits until it ends."""
    from hexdsl.bundle import run_bundle

    return Output(code=run_bundle(Path(args.bundle)))


def planned(loaded: Loaded, args: argparse.Namespace, after: Watch | None = None) -> Plan:
    """The plan of a spec; errors then know the spec's sources."""
    from hexdsl.pipeline import plan_spec

    args.sources = loaded.sources
    return plan_spec(loaded.spec, args.workflow, after or Watch(args))


def plan_json(plan: Plan) -> str:
    """The text of plan.json."""
    return json.dumps(plan.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


class Watch:
    """Called after each pass: shows progress, keeps the times and the plan that was asked for."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.show: Callable[[str], None] = args.show
        self.timed: bool = getattr(args, "time_passes", False)
        self.wanted: str | None = getattr(args, "print_after", None)
        self.lines: list[str] = []
        self.printed = ""
        if self.wanted:
            self._check_wanted(self.wanted)

    def _check_wanted(self, name: str) -> None:
        from hexdsl.pipeline import PIPELINES

        names = {p.name for passes in PIPELINES.values() for p in passes}
        if name not in names:
            raise UsageError([Diagnostic("E020", f"there is no pass `{name}`", (), suggestion(name, names))])

    def __call__(self, step: Pass, plan: Plan, seconds: float) -> None:
        self.lines.append(f"{step.name:<12} {seconds:8.3f} s")
        self.show(f"{step.name}: done")
        if step.name == self.wanted:
            self.printed = plan_json(plan)

    def talk(self, *more: str) -> str:
        """What goes to stderr when all is done."""
        return "\n".join(t for t in ("\n".join(self.lines) if self.timed else "", *more) if t)
