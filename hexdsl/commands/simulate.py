"""`hexc simulate`: the load played through a plan, request by request."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from hexdsl.commands.base import Output, as_json, save_file
from hexdsl.commands.plan import plan_json
from hexdsl.commands.views import plan_of
from hexdsl.ir.diagnostic import Diagnostic, UsageError
from hexdsl.ir.plan import Plan

BAR = 20


def simulate_command(args: argparse.Namespace) -> Output:
    """Simulates a plan; exit code 3 where a rule is broken."""
    from hexdsl.commands.scenario import check_in_time, played
    from hexdsl.passes.serve.simulate import Size, simulated, size_of
    from hexdsl.report.text import simulation_text

    for name, value, least in (("requests", args.requests, 20), ("seeds", args.seeds, 1)):
        if value is not None and not least <= value <= 1_000_000:
            raise UsageError([Diagnostic("E113", f"`--{name}` must be at least {least} and at most 1000000")])
    plan = plan_of(args, args.subject)
    what = played(args, plan)
    wanted = size_of(plan, args.requests, args.seeds)
    size = Size(*what.scenario.fitting(wanted.requests, wanted.seeds), what.scenario)
    check_in_time(what, size.requests, size.seeds)
    found = simulated(what.plan, size, teller(args.show, size.requests, size.seeds)).simulation
    assert found is not None
    said = what.said(size.requests, size.seeds)
    made = plan.with_(simulation=found.with_(played=said, notes=found.notes if what.scenario.as_planned else ()))
    assert made.simulation is not None
    written = "\n".join(f"wrote {path}" for path in _write(made, args))
    code = 0 if all(r.holds for r in made.simulation.rules) else 3
    if args.json:
        data = {"format_version": "1.0", "plan": plan.digest(), **made.simulation.model_dump(mode="json")}
        return Output(data=as_json(data), talk=written, code=code)
    return Output(data=simulation_text(made, args.width), talk=written, code=code)


def _write(plan: Plan, args: argparse.Namespace) -> list[str]:
    """Writes the files that were asked for; returns their paths."""
    from hexdsl.report.html import plan_html

    wanted: tuple[tuple[str | None, Callable[[Plan], str]], ...] = ((args.save, plan_json), (args.html, plan_html))
    for path, text in wanted:
        if path is not None:
            save_file(Path(path), text(plan))
    return [path for path, _ in wanted if path is not None]


def teller(show: Callable[[str], None], requests: int, seeds: int) -> Callable[[int, int], None]:
    """Shows how far a simulation of so many runs has come, each time it is told a run and its ended requests."""

    def tell(run: int, ended: int) -> None:
        share = (run * requests + ended) / (seeds * requests)
        bar = "━" * int(BAR * share)
        show(f"simulating {bar:<{BAR}} {share:4.0%}  run {run + 1} of {seeds}, {ended:,} of {requests:,} requests")

    tell(0, 0)
    return tell
