"""`hexc plan --pareto`: the frontier of cost, throughput and latency."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hexdsl.commands.base import Output, save_file, spec_of, warnings
from hexdsl.commands.plan import Watch
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.front import Front

POINTS = 10
LEAST, MOST = 3, 100


def pareto_command(args: argparse.Namespace) -> Output:
    """Finds the frontier of a spec and prints it.  Raises SpecError."""
    from hexdsl.pipeline import plan_front
    from hexdsl.report.front import front_html, front_text

    points = POINTS if args.points is None else args.points
    if not LEAST <= points <= MOST:
        raise UsageError([Diagnostic("E113", f"`--points` must be at least {LEAST} and at most {MOST}")])
    loaded = spec_of(args, args.spec)
    args.sources = loaded.sources
    watch = Watch(args)
    found = plan_front(loaded.spec, args.workflow, points, watch, args.show)
    if args.save:
        save_file(Path(args.save), front_json(found))
    if args.html:
        save_file(Path(args.html), front_html(found))
    wrote = f"wrote {args.html}" if args.html else ""
    shown = front_json(found) if args.json else front_text(found, args.width)
    return Output(data=shown, talk=watch.talk(warnings(loaded, args), wrote))


def front_json(front: Front) -> str:
    """The text of a saved frontier."""
    return json.dumps(front.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def alone(args: argparse.Namespace) -> None:
    """Raises UsageError for options of `plan` that go with `--pareto` only, or not with it."""
    if args.pareto and args.print_after:
        raise UsageError([Diagnostic("E004", "`--print-after` is about one plan: leave it out, or `--pareto`")])
    for name in ("points", "html"):
        if not args.pareto and getattr(args, name) is not None:
            raise UsageError([Diagnostic("E004", f"`--{name}` goes with `--pareto`", (), "add `--pareto`")])
