"""Operating points as text: the view of `hexc estimate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hexdsl.costs.efficiency import weakest
from hexdsl.costs.estimate import Estimate
from hexdsl.costs.point import Estimated, Memory, Replica
from hexdsl.costs.serving import Load
from hexdsl.report import figures as say
from hexdsl.report.text import RULED, rendered

Row = tuple[str, Replica, Load, float, Estimated]
"""Title, replica, load, batch, and what they come to."""

SHARE_NOTE = "roofline: the time that the datasheet alone would take, as a share of the predicted time"


def point_text(title: str, replica: Replica, load: Load, batch: float, found: Estimated, width: int | None) -> str:
    """One point: its metrics with their ranges, time by operation, memory by part."""
    sections = (
        ("Predicted", _metrics(found)),
        ("Time per output token", _operations(found)),
        ("Memory of one GPU", _memory(found.memory)),
    )
    parts: list[RenderableType] = [Text(say.clean(title), "bold"), Text(_situation(replica, load, batch, found))]
    for heading, table in sections:
        parts += [Text(f"\n{heading}", "bold"), Padding(table, (0, 0, 0, 2))]
    parts.append(Text(f"\n{SHARE_NOTE}", "dim"))
    return rendered(Group(*parts), width, False)


def points_text(rows: Sequence[Row], width: int | None) -> str:
    """Many points, one a line."""
    columns = ("point", "batch", "in/out", "TTFT", "TPOT", "tok/s/GPU", "roofline", "memory", "rests on")
    table = plain_table(*columns, right=columns[1:-1])
    for title, _, load, batch, found in rows:
        lengths = f"{_tokens(load.prompt)}/{_tokens(load.output)}"
        figures = (say.rough(found.tpot.value, "s"), say.rough(found.tokens_per_s_gpu, ""))
        table.add_row(
            say.clean(title), _batch(batch, found), lengths, interval(found.ttft), *figures,
            say.percent(found.roofline), _filled(found), trust(found.tpot),
        )  # fmt: skip
    return rendered(table, width, False)


def _situation(replica: Replica, load: Load, batch: float, found: Estimated) -> str:
    formats = replica.formats
    kinds = f"weights {formats.weights}, compute {formats.activations}, KV {formats.kv}"
    running = "" if found.running >= batch else f", of which {found.running:.0f} run together"
    lengths = f"{_tokens(load.prompt)} tokens in, {_tokens(load.output)} out"
    return f"tp {replica.tp}, pp {replica.pp}; {kinds}\n{say.count(round(batch), 'request')}{running}; {lengths}"


def _batch(batch: float, found: Estimated) -> str:
    return say.digits(batch) if found.running >= batch or not found.fits else f"{found.running:.0f} of {batch:.0f}"


def _tokens(value: object) -> str:
    return say.digits(float(value))  # type: ignore[arg-type]


def _metrics(found: Estimated) -> Table:
    table = plain_table("metric", "value", "range", "rests on", "mostly", right=("value",))
    ttft, tpot, rate = found.ttft, found.tpot, found.requests_per_s
    table.add_row("TTFT", "", interval(ttft), trust(ttft), _mostly(ttft))
    table.add_row("TPOT", say.rough(tpot.value, "s"), interval(tpot), trust(tpot), _mostly(tpot))
    table.add_row("requests", say.rough(rate.value, "req/s"), interval(rate, "req/s"), trust(rate), "")
    table.add_row("output", say.rough(found.tokens_per_s_gpu, "tok/s"), "", trust(rate), "per GPU")
    return table


def _operations(found: Estimated) -> Table:
    table = plain_table("operation", "time", "share", "roofline", "rests on", right=("time", "share", "roofline"))
    for o in found.operations:
        roofline = "" if o.roofline is None else say.percent(o.roofline)
        share = say.percent(o.seconds / found.tpot.value)
        table.add_row(o.name, say.rough(o.seconds, "s"), share, roofline, o.provenance)
    table.add_row("all", say.rough(found.tpot.value, "s"), "", say.percent(found.roofline), trust(found.tpot))
    return table


def _memory(memory: Memory) -> Table:
    table = plain_table("part", "size", right=("size",))
    for name, size in _parts(memory):
        table.add_row(name, say.memory(size))
    table.add_row("all", f"{say.memory(sum(size for _, size in _parts(memory)))} of {say.memory(memory.capacity)}")
    return table


def _parts(memory: Memory) -> Iterator[tuple[str, float]]:
    yield "weights", memory.weights
    yield "KV cache", memory.kv
    yield "activations", memory.activations
    yield "collectives", memory.buffers
    yield "reserve", memory.reserve


def _filled(found: Estimated) -> str:
    total = sum(size for _, size in _parts(found.memory))
    return say.percent(total / found.memory.capacity) if found.fits else "too large"


def interval(found: Estimate, unit: str = "s") -> str:
    """`20ms..30ms`."""
    return f"{say.rough(found.low, unit)}..{say.rough(found.high, unit)}"


def trust(found: Estimate) -> str:
    """The weakest provenance of the parts."""
    return weakest(*(t.provenance for t in found.terms)) if found.terms else "given"


def _mostly(found: Estimate) -> str:
    largest: Iterable[tuple[str, float]] = sorted(((t.name, t.value) for t in found.terms), key=lambda t: -t[1])
    return ", ".join(f"{name} {say.percent(value / found.value)}" for name, value in list(largest)[:2])


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table in the style of hexc's views; columns of figures stand to the right."""
    table = Table(box=RULED, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in right)
    return table
