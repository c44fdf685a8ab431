"""A frontier of plans as text, and as one self-contained HTML page with a plot for each two axes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from hexdsl.ir.front import Front, FrontPoint
from hexdsl.report import figures as say
from hexdsl.report import scatter
from hexdsl.report.html import environment
from hexdsl.report.scatter import said
from hexdsl.report.text import rendered, ruled

HOW = (
    "Write the lines of a plan in place of the objectives of the spec, beside its own rules, which hold for every plan."
)


def front_text(front: Front, width: int | None = None, color: bool = False) -> str:
    """What a person reads about a frontier.  `width` is the terminal's columns, None where there is no terminal."""
    return rendered(Group(*_blocks(front)), width, color)


def front_html(front: Front) -> str:
    """The page about a frontier.  Everything from the spec is escaped."""
    page = environment().get_template("front.html.j2")
    return page.render(
        front=front, headline=headline(front), plots=tuple(scatter.scatters(front)), frame=scatter, say=say, said=said,
        simulated=simulated, proof=proof, how=HOW,
    )  # fmt: skip


def headline(front: Front) -> str:
    """The frontier in a line."""
    axes = [a.name for a in front.axes]
    named = ", ".join(axes[:-1]) + f" and {axes[-1]}"
    if len(front.points) == 1:
        return f"one plan is best in all of {named}"
    return f"{say.count(len(front.points), 'plan')} of which none is better in all of {named}"


def _blocks(front: Front) -> Iterator[RenderableType]:
    yield Text(say.clean(f"{front.name}: {headline(front)}"), "bold")
    names = [say.clean(a.name) for a in front.axes]
    table = ruled("point", *names, "GPUs", "replicas", right=("point", *names, "GPUs"))
    lines = ruled("point", "lines", "proved then", right=("point",))
    for number, point in enumerate(front.points, 1):
        values = (_cell(front, point, i) for i in range(len(names)))
        table.add_row(f"{number}{'*' * point.own}", *values, say.whole(point.gpus), _words(", ".join(point.replicas)))
        lines.add_row(str(number), _words("\n".join(point.lines)), _words(proof(front, point)))
    yield from _section("Frontier, as predicted and (in brackets) as simulated", table)
    yield from _section("How to get a plan", Group(Text(HOW, "dim"), lines))
    if any(p.own for p in front.points):
        yield Padding(Text("* the plan of the spec as it is", "dim"), (0, 0, 0, 2))
    if front.notes:
        yield from _section("Notes", _words("\n".join(front.notes)))
    searched = f"searched {front.searches} times, spec {front.spec_digest}, hexc {front.hexc_version}"
    yield Text(f"\n{say.clean(searched)}", "dim")


def _section(title: str, inner: RenderableType) -> Iterator[RenderableType]:
    yield Text(f"\n{title}", "bold")
    yield Padding(inner, (0, 0, 0, 2))


def _cell(front: Front, point: FrontPoint, index: int) -> str:
    axis, seen = front.axes[index], simulated(point, index)
    played = "" if seen is None else f" ({said(seen, axis)})"
    return f"{said(point.values[index], axis)}{played}"


def _words(text: str) -> Text:
    return Text(say.clean(text))


def simulated(point: FrontPoint, index: int) -> float | None:
    """What the simulation came to on an axis, None where it tells nothing."""
    return point.simulated[index] if point.simulated else None


def proof(front: Front, point: FrontPoint) -> str:
    """`cost, gap 12%: no plan under $8.70/h`; empty where nothing is proved."""
    index = next(i for i, a in enumerate(front.axes) if a.name == point.optimised)
    axis, gap = front.axes[index], scatter.gap(point.values[index], point.bound)
    if point.bound is None or gap is None:
        return f"{axis.name}, no bound is known"
    if gap <= say.NO_GAP:
        return f"{axis.name}, proved"
    limit = "under" if axis.sense == "minimize" else "over"
    return f"{axis.name}, gap {say.percent(gap)}: no plan {limit} {said(point.bound, axis)}"
