"""What a person reads of a re-plan."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from hexdsl.ir.plan import RuleCheck
from hexdsl.ir.replan import Anew, Moved, Replan
from hexdsl.report import figures as say
from hexdsl.report.text import rendered, ruled

FEW = 8
"""Names that a line lists."""

MOODS = {"lost": "bold red", "starts": "green", "changes": "yellow", "idle": "dim"}


def replan_text(made: Replan, width: int | None = None, color: bool = False) -> str:
    """The view of `hexc replan`."""
    return rendered(Group(*_blocks(made)), width, color)


def _blocks(made: Replan) -> Iterator[RenderableType]:
    load = "" if made.arrivals_req_per_s is None else f" of {say.amount(made.arrivals_req_per_s, 'req/s')} that arrive"
    before, after = (say.amount(x, "req/s") for x in (made.served_before_req_per_s, made.served_after_req_per_s))
    starts = [m.replica for m in made.replicas if m.fate == "starts"]
    more = f"; {', '.join(starts[:FEW])}{' ...' * (len(starts) > FEW)} must be started" if starts else ""
    yield Text(f"{say.clean(made.plan.name)}: no replica moves or loads anything{more}", "bold")
    yield Text(f"serves {after}{load}; {before} before")
    yield Text("\nReplicas", "bold")
    table = ruled("name", "fate", "phase", "req/s before", "req/s after", right=("req/s before", "req/s after"))
    for moved in made.replicas:
        table.add_row(moved.replica, Text(moved.fate, MOODS.get(moved.fate, "")), _phase(moved), *_rates(moved))
    yield table
    yield from _simulated(made)
    if made.broken:
        yield Text("\nRules that no choice of phases and routes keeps", "bold")
        yield from (Text(f"  {_broken(rule)}", "bold red") for rule in made.broken)
    yield Text("\nA plan from nothing", "bold")
    yield Text(f"  {_bound(made)}" if made.anew is None else f"  {_anew(made, made.anew)}")


def _simulated(made: Replan) -> Iterator[RenderableType]:
    """What the simulation says of the rules, those first that it breaks."""
    checks = made.plan.simulation.rules if made.plan.simulation else ()
    if checks:
        yield Text("\nAs simulated", "bold")
    for rule in sorted(checks, key=lambda c: c.holds):
        holds = "holds" if rule.holds else "does not hold"
        yield Text(f"  {rule.text}: {holds}, {_value(rule)}", "" if rule.holds else "bold red")


def _value(rule: RuleCheck) -> str:
    return "no value" if rule.value is None else say.amount(rule.value, rule.unit)


def _phase(moved: Moved) -> str:
    before, after = moved.role_before, moved.role_after
    if before is None or after is None or before == after:
        return after or before or ""
    return f"{before} becomes {after}"


def _rates(moved: Moved) -> tuple[str, str]:
    before, after = moved.rate_before_req_per_s, moved.rate_after_req_per_s
    return (say.digits(before) if moved.fate != "starts" else "", say.digits(after) if moved.role_after else "")


def _broken(rule: RuleCheck) -> str:
    if rule.value is None or rule.limit is None:
        return rule.text
    return f"{rule.text}: {say.amount(rule.value, rule.unit)} instead of {say.amount(rule.limit, rule.unit)}"


def _bound(made: Replan) -> str:
    bound, after = made.bound_req_per_s, made.served_after_req_per_s
    if bound is None:
        return "cannot keep these rules on these machines"
    if bound <= after * (1 + 1e-4):
        return "cannot serve more"
    return f"cannot serve more than {say.amount(bound, 'req/s')}; `--full` searches for one and says whether it pays"


def _anew(made: Replan, anew: Anew) -> str:
    replicas = say.count(len(made.plan.replicas) and anew.kept, "replica")
    more = anew.served_req_per_s / made.served_after_req_per_s - 1 if made.served_after_req_per_s else 0.0
    pays = "pays" if anew.pays else "does not pay"
    return (
        f"serves {say.amount(anew.served_req_per_s, 'req/s')} ({more:+.1%}) at {say.cost(anew.cost_usd_per_h)}, keeps "
        f"{replicas} as they are, and loads {say.memory(anew.loads_bytes)}, {anew.reload_s:.0f} s at "
        f"{say.bandwidth(anew.disk_bytes_per_s)}: over {anew.window_s:.0f} s it {pays}"
    )
