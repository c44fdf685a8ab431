"""Training steps as text: the view of `hexc estimate --train`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hexdsl.costs.training.predict import TrainCost
from hexdsl.costs.training.strategy import TrainStrategy, num
from hexdsl.report import figures as say
from hexdsl.report.estimate import interval, plain_table, trust
from hexdsl.report.text import rendered

Row = tuple[str, TrainStrategy, int, TrainCost]
"""Title, strategy, sequence length, and what they come to."""

DEGREES = ("tp", "pp", "cp", "ep", "dp")


def train_text(title: str, strategy: TrainStrategy, seq: int, cost: TrainCost, width: int | None) -> str:
    """One strategy: its metrics, its step by cause, the memory of each stage's ranks by part."""
    lines = f"{_shape(strategy)}; {say.whole(int(strategy.global_batch))} sequences of {say.whole(seq)} tokens a step"
    parts: list[RenderableType] = [Text(say.clean(title), "bold"), Text(lines)]
    for heading, table in (
        ("Predicted", _metrics(strategy, cost)),
        ("Time of a step", _step(cost)),
        ("Memory of a rank", _memory(cost)),
    ):
        parts += [Text(f"\n{heading}", "bold"), Padding(table, (0, 0, 0, 2))]
    return rendered(Group(*parts), width, False)


def steps_text(rows: Sequence[Row], width: int | None) -> str:
    """Many strategies, one a line."""
    columns = ("job", "strategy", "batch", "step", "range", "tok/s/GPU", "MFU", "memory", "rests on")
    table = plain_table(*columns, right=("batch", "step", "tok/s/GPU", "MFU", "memory"))
    for title, strategy, _, cost in rows:
        table.add_row(
            say.clean(title), _shape(strategy), say.whole(int(strategy.global_batch)), say.rough(cost.step.value, "s"),
            interval(cost.step), say.rough(cost.tokens_per_s / int(strategy.gpus), ""),
            say.percent(cost.utilisation.mfu), _fullest(cost), trust(cost.step),
        )  # fmt: skip
    return rendered(table, width, False)


def _shape(s: TrainStrategy) -> str:
    degrees = [f"{name} {int(getattr(s, name))}" for name in DEGREES if int(getattr(s, name)) > 1]
    stage = int(num(s.zero))
    zero = [f"ZeRO {stage}"] if stage else []
    recompute = [f"recompute {s.recompute}"] if s.recompute != "none" else []
    return ", ".join([*(degrees or ["one GPU"]), *zero, *recompute, s.precision])


def _fullest(cost: TrainCost) -> str:
    return say.memory(max(m.need.value for m in cost.memory)) if cost.fits else "too large"


def _metrics(strategy: TrainStrategy, cost: TrainCost) -> Table:
    table = plain_table("metric", "value", "range", "rests on", right=("value",))
    step, used = cost.step, cost.utilisation
    table.add_row("step time", say.rough(step.value, "s"), interval(step), trust(step))
    table.add_row("tokens", say.rough(cost.tokens_per_s / int(strategy.gpus), "tok/s"), "", "per GPU")
    table.add_row("MFU", say.percent(used.mfu), "", f"of the {used.format} peak")
    if used.hfu > used.mfu:
        table.add_row("HFU", say.percent(used.hfu), "", "with what is computed again")
    return table


def _step(cost: TrainCost) -> Table:
    table = plain_table("cause", "time", "share", "rests on", right=("time", "share"))
    for term in sorted(cost.step.terms, key=lambda t: (-t.value, t.name)):
        table.add_row(term.name, say.rough(term.value, "s"), say.percent(term.value / cost.step.value), term.provenance)
    return table


def _memory(cost: TrainCost) -> Table:
    stages = [f"{m.stage} stage" for m in cost.memory]
    table = plain_table("part", *stages, right=stages)
    names = dict.fromkeys(t.name for m in cost.memory for t in m.need.terms)
    for name in names:
        sizes = (next((t.value for t in m.need.terms if t.name == name), 0.0) for m in cost.memory)
        table.add_row(name, *map(say.memory, sizes))
    table.add_row("all", *(say.memory(m.need.value) for m in cost.memory))
    table.add_row("range", *(interval(m.need, "bytes") for m in cost.memory))
    return table
