"""A plan as text: the views of `hexc plan` and `hexc simulate`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from rich.box import Box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hexdsl.ir.plan import Plan, Prediction, Replica, RuleCheck, Simulation, Stage
from hexdsl.report import figures as say
from hexdsl.report import simulation as played

PLAIN_WIDTH = 100
"""Columns where the output is no terminal, so that files and pipes always get the same bytes."""
LEAST_WIDTH = 40
FIRST_OF_PAIR = 28
BAR = 10
PART_MARKS = ("█", "▓", "▒", "░")
MOODS = {"bad": "bold red", "warn": "yellow", "good": "green"}
RULED = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def plan_text(plan: Plan, width: int | None = None, color: bool = False) -> str:
    """What a person reads about a plan.  `width` is the terminal's columns, None where there is no terminal."""
    return rendered(Group(*_blocks(plan)), width, color)


def simulation_text(plan: Plan, width: int | None = None, color: bool = False) -> str:
    """The view of `hexc simulate`.  Raises ValueError for a plan that was not simulated."""
    if plan.simulation is None:
        raise ValueError("the plan was not simulated")
    sections = (
        ("Simulated", _simulated(plan)),
        ("Beside the prediction", _departures(plan)),
        ("Replicas", _loads(plan)),
        ("Rules", _simulated_rules(plan.simulation)),
        ("Notes", map(_text, plan.simulation.notes)),
    )
    return rendered(Group(headline(plan), *_sections(sections)), width, color)


def rendered(view: RenderableType, width: int | None, color: bool) -> str:
    """A rich view as text, without spaces at the ends of lines."""
    out = io.StringIO()
    columns = PLAIN_WIDTH if width is None else max(LEAST_WIDTH, width)
    console = Console(
        file=out, width=columns, force_terminal=color, no_color=not color, color_system="standard" if color else None,
        highlight=False, markup=False, emoji=False, legacy_windows=False, force_jupyter=False,
    )  # fmt: skip
    console.print(view)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n") + "\n"


def _blocks(plan: Plan) -> Iterator[RenderableType]:
    simulation = plan.simulation
    sections = (
        ("Replicas", _replicas(plan)),
        ("KV caches on their way", _pairs(say.handover(h, plan) for h in plan.handovers)),
        ("Precision", _precision(plan)),
        ("Predicted", _predictions(plan)),
        ("Rules", _rules(plan)),
        ("Simulated", _simulated(plan)),
        ("Rules, as simulated", _simulated_rules(simulation) if simulation else ()),
        ("How good it is", _certificates(plan)),
        ("Why", _pairs((f"{d.what}: {d.choice}", d.reason) for d in plan.decisions)),
        ("Defaults that shaped it", _defaults(plan)),
        ("Notes", map(_text, (*plan.notes, *(simulation.notes if simulation else ())))),
    )
    yield headline(plan)
    yield from _sections(sections)
    yield Text(f"\n{_footer(plan)}", "dim")


def _sections(sections: Iterable[tuple[str, Iterable[RenderableType]]]) -> Iterator[RenderableType]:
    for title, items in sections:
        if shown := tuple(items):
            yield Text(f"\n{title}", "bold")
            yield Padding(Group(*shown), (0, 0, 0, 2))


def headline(plan: Plan) -> Text:
    """The plan in two lines."""
    first = f"{say.clean(plan.name)}: {say.model_name(plan)} on {say.clean(plan.workflow.on.name)}"
    devices = f"{say.whole(len(say.used_devices(plan)))} of {say.count(say.total_devices(plan), 'GPU')}"
    rest = [f"{say.count(len(plan.replicas), 'replica')} on {devices}", say.cost(plan.cost_usd_per_h)]
    if plan.context:
        rest.append(f"requests up to {say.whole(plan.context)} tokens")
    rest.append("simulated" if plan.simulated else "not simulated")
    return Text(first, "bold").append(f"\n{', '.join(rest)}", "not bold")


def ruled(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    table = Table(box=RULED, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for name in columns:
        kept = name in whole or name in right
        table.add_column(name, justify="right" if name in right else "left", no_wrap=kept, overflow="fold")
    return table


def _pairs(rows: Iterable[tuple[str, str]]) -> Iterator[RenderableType]:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(max_width=FIRST_OF_PAIR, overflow="fold")
    grid.add_column(overflow="fold")
    for what, why in rows:
        grid.add_row(_text(what), _text(why))
    if grid.row_count:
        yield grid


def _replicas(plan: Plan) -> Iterator[RenderableType]:
    if not plan.replicas:
        return
    table = ruled(
        "name", "layers", "GPUs", "kind", "memory", "batch", "req/s", "share",
        right=("batch", "req/s", "share"), whole=("layers", "memory", "kind"),
    )  # fmt: skip
    for alike in say.alike(plan.replicas):
        for i, stage in enumerate(alike[0].stages):
            load = ("", "", "") if i else _load_cells(alike, plan)
            table.add_row("" if i else _bold(say.names(alike)), *_stage_cells(stage, i, alike), *load)
    yield table
    marks = zip(PART_MARKS, ("weights", "KV cache", "other", "free"), strict=True)
    yield Text("memory of a GPU: " + "  ".join(f"{mark} {name}" for mark, name in marks), "dim")


def _stage_cells(stage: Stage, index: int, alike: Sequence[Replica]) -> tuple[Text | str, ...]:
    kind = f"{stage.gpu} TP {stage.tp}" if stage.tp > 1 else stage.gpu
    where = say.device_ranges(stage.devices)
    if len(alike) > 1:
        machines = {r.stages[index].machine for r in alike}
        where = f"{len(alike) * stage.tp} GPUs on {say.count(len(machines), 'machine')}"
    return (say.layers(stage), where, _text(kind), memory_bar(stage))


def _load_cells(alike: Sequence[Replica], plan: Plan) -> tuple[str, ...]:
    rate = sum(r.rate_req_per_s for r in alike)
    return (str(alike[0].max_batch), say.digits(rate), say.share_text(alike, plan))


def memory_bar(stage: Stage) -> Text:
    """A bar of weights, KV cache, other and free memory, and the share that is filled."""
    parts = [size for _, size in say.memory_parts(stage.memory)]
    cells = _cells(parts, BAR)
    bar = Text()
    for mark, cell, style in zip(PART_MARKS, cells, ("cyan", "blue", "magenta", "dim"), strict=True):
        bar.append(mark * cell, style)
    return bar.append(f" {say.percent(say.filled(stage.memory))}")


def _cells(parts: Sequence[int], width: int) -> list[int]:
    """Widths that add up to `width`: the largest remainders are rounded up, earlier parts first."""
    total = max(1, sum(parts))
    exact = [width * part / total for part in parts]
    cells = [int(e) for e in exact]
    short = sorted(range(len(parts)), key=lambda i: (cells[i] - exact[i], i))[: width - sum(cells)]
    return [cell + (i in short) for i, cell in enumerate(cells)]


def _precision(plan: Plan) -> Iterator[RenderableType]:
    if not plan.precision:
        return
    table = ruled("GPU", "weights", "activations", "KV cache", "computes in", "because")
    for p in plan.precision:
        table.add_row(*map(_text, (p.gpu, p.weights, p.activations, p.kv, p.compute, p.reason)))
    yield table


def _predictions(plan: Plan) -> Iterator[RenderableType]:
    if not plan.predictions:
        return
    columns = ("metric", "value", "range", "rests on", "mostly")
    table = ruled(*columns, right=("value",), whole=("range", "metric", "rests on"))
    for p in plan.predictions:
        table.add_row(_text(p.metric), say.middle(p), say.interval(p), say.provenance(p.terms), _text(mostly(p)))
    yield table


def mostly(p: Prediction) -> str:
    """The two largest parts of a prediction."""
    return ", ".join(f"{t.name} {say.percent(share)}" for t, share in say.largest_terms(p)[:2])


def _rules(plan: Plan) -> Iterator[RenderableType]:
    if not plan.rules:
        return
    table = ruled("line", "rule", "comes to", "limit", "", right=("line", "comes to", "limit"))
    for rule in plan.rules:
        limit = "" if rule.limit is None else say.amount(rule.limit, rule.unit)
        table.add_row(str(rule.line), _text(rule.text), say.comes_to(rule, plan), limit, _verdict(rule, plan))
    yield table


def _verdict(rule: RuleCheck, plan: Plan) -> Text:
    return Text(say.verdict(rule, plan), MOODS[say.mood(rule, plan)])


def _simulated(plan: Plan) -> Iterator[RenderableType]:
    if plan.simulation is None:
        return
    run = plan.simulation
    yield _text(played.runs_text(run))
    latencies = ruled("latency", *played.STATS, right=played.STATS)
    for name in played.LATENCIES:
        latencies.add_row(name, *played.latency_cells(run, name))
    yield latencies
    others = ruled("figure", "mean", "from", "to", right=("mean", "from", "to"))
    for line in played.figure_lines(run):
        others.add_row(line.name, line.mean, line.low, line.high)
    yield others


def _departures(plan: Plan) -> Iterator[RenderableType]:
    table = ruled("metric", "predicted", "simulated", "from", "to", "", right=("simulated", "from", "to"))
    for found in played.departures(plan):
        table.add_row(
            _text(found.metric), found.predicted, found.simulated, *found.ends, Text(found.verdict, MOODS[found.mood])
        )
    if table.row_count:
        yield table


def _loads(plan: Plan) -> Iterator[RenderableType]:
    columns = ("requests", "busy", "KV mean", "KV peak", "preempted")
    table = ruled("replica", *columns, right=columns)
    for name, *cells in played.load_rows(plan):
        table.add_row(_bold(name), *cells)
    if table.row_count:
        yield table


def _simulated_rules(run: Simulation) -> Iterator[RenderableType]:
    table = ruled("line", "rule", "comes to", "limit", "", right=("line", "comes to", "limit"))
    for rule in run.rules:
        value, limit = ("-" if v is None else say.rough(v, rule.unit) for v in (rule.value, rule.limit))
        verdict = Text(played.verdict(rule, run), MOODS[played.mood(rule, run)])
        table.add_row(played.line_of(rule), _text(rule.text), value, limit, verdict)
    if run.rules:
        yield table


def _certificates(plan: Plan) -> Iterator[RenderableType]:
    if not plan.certificates:
        return
    columns = ("pass", "goal", "reached", "bound", "gap", "proof")
    table = ruled(*columns, right=("reached", "bound", "gap"), whole=("pass",))
    for c in plan.certificates:
        figures = (say.goal_value(c.objective, c), say.goal_value(c.bound, c), say.percent(c.gap))
        table.add_row(_text(c.of), _text(c.goal), *figures, say.proof(c))
    yield table
    for c in plan.certificates:
        yield Text(say.clean(f"{c.of}: {c.method} ({c.solver}, {say.count(c.work, 'step')})"), "dim")


def _defaults(plan: Plan) -> Iterator[RenderableType]:
    yield from _pairs((d.pin, f"{d.description} (to pin it, write it in `{d.place}`)") for d in plan.defaults)


def _footer(plan: Plan) -> str:
    checked = [f"verified: {'; '.join(plan.verified)}"] if plan.verified else []
    return say.clean("\n".join([*checked, f"plan {plan.digest()}, spec {plan.spec_digest}, hexc {plan.hexc_version}"]))


def _text(words: str) -> Text:
    return Text(say.clean(words))


def _bold(words: str) -> Text:
    return Text(say.clean(words), "bold")
