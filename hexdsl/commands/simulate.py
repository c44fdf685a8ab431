"""`hexc simulate`: the load played through a plan, request by request."""

from __future__ import annotations

import argparse

from hexdsl.commands.base import Output, as_json
from hexdsl.commands.views import plan_of
from hexdsl.ir.diagnostic import Diagnostic, UsageError


def simulate_command(args: argparse.Namespace) -> Output:
    """Simulates a plan; exit code 3 where a rule is broken."""
    from hexdsl.passes.serve.simulate import simulated, size_of
    from hexdsl.report.simulation import simulation_text

    for name, value, least in (("requests", args.requests, 20), ("seeds", args.seeds, 1)):
        if value is not None and not least <= value <= 1_000_000:
            raise UsageError([Diagnostic("E113", f"`--{name}` must be at least {least} and at most 1000000")])
    plan = plan_of(args, args.subject)
    args.show("simulating")
    made = simulated(plan, size_of(plan, args.requests, args.seeds))
    assert made.simulation is not None
    code = 0 if all(r.holds for r in made.simulation.rules) else 3
    if args.json:
        found = {"format_version": "1.0", "plan": plan.digest(), **made.simulation.model_dump(mode="json")}
        return Output(data=as_json(found), code=code)
    return Output(data=simulation_text(made, args.width), code=code)
