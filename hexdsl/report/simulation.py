"""What a simulation came to, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from hexdsl.ir.plan import Plan, RuleCheck, Simulated, Simulation
from hexdsl.report import figures as say
from hexdsl.report.text import headline, rendered, ruled

LATENCIES = ("ttft", "tpot", "latency")
STATS = ("mean", "p50", "p95", "p99")


def simulation_text(plan: Plan, width: int | None = None, color: bool = False) -> str:
    """The view of `hexc simulate`.  Raises ValueError for a plan that was not simulated."""
    if plan.simulation is None:
        raise ValueError("the plan was not simulated")
    return rendered(Group(headline(plan), *_blocks(plan.simulation)), width, color)


def _blocks(run: Simulation) -> Iterator[RenderableType]:
    yield Text(f"{run.seeds} runs of {say.whole(run.requests)} requests, mean and 95 % confidence interval over them")
    by_name = {f.metric: f for f in run.figures}
    yield _section("Simulated", _latencies(by_name), _rates(by_name))
    if run.rules:
        yield _section("Rules", _rules(run.rules))
    if run.notes:
        yield _section("Notes", *(Text(say.clean(n)) for n in run.notes))


def _section(title: str, *parts: RenderableType) -> RenderableType:
    return Group(Text(f"\n{title}", "bold"), Padding(Group(*parts), (0, 0, 0, 2)))


def _latencies(figures: Mapping[str, Simulated]) -> RenderableType:
    found = ruled("metric", *STATS, right=STATS)
    for name in LATENCIES:
        found.add_row(name, *(_cell(figures.get(f"{stat}({name})")) for stat in STATS))
    return found


def _rates(figures: Mapping[str, Simulated]) -> RenderableType:
    found = ruled("metric", "mean", "from", "to", right=("mean", "from", "to"))
    for name in ("goodput", "throughput"):
        figure = figures.get(name)
        if figure is not None:
            found.add_row(name, *(say.rough(v, figure.unit) for v in (figure.mean, figure.low, figure.high)))
    return found


def _cell(figure: Simulated | None) -> str:
    if figure is None:
        return "-"
    half = (figure.high - figure.low) / 2
    return f"{say.rough(figure.mean, figure.unit)} ±{say.rough(half, figure.unit)}"


def _rules(rules: tuple[RuleCheck, ...]) -> RenderableType:
    found = ruled("line", "rule", "comes to", "limit", "", right=("line", "comes to", "limit"))
    for rule in rules:
        value, limit = (say.rough(v, rule.unit) if v is not None else "-" for v in (rule.value, rule.limit))
        verdict = Text("holds", "green") if rule.holds else Text("broken", "bold red")
        found.add_row(str(rule.line), say.clean(rule.text), value, limit, verdict)
    return found
