"""A calibration as text: the view of `hexc calibrate`."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hexdsl.costs.overheads import DEFAULT_OVERHEADS
from hexdsl.costs.profile import tpot_band
from hexdsl.ir.spec.profile import Calibration, Errors
from hexdsl.report import figures as say
from hexdsl.report.estimate import plain_table
from hexdsl.report.text import rendered

METRICS = {"tpot": "TPOT", "ttft": "TTFT"}


def calibration_text(found: Calibration, width: int | None) -> str:
    """What was fitted, what was not, and how far predictions of rows that were left out are off."""
    head = Text(f"{say.clean(found.source)}: {say.count(found.rows, 'row')}", "bold")
    parts: list[RenderableType] = [head, Text("\nFitted", "bold"), Padding(_coefficients(found), (0, 0, 0, 2))]
    parts += [Text(f"\n{line}") for line in _doubts(found)]
    parts += [Text("\nErrors in percent on rows that were left out of the fit", "bold")]
    parts.append(Padding(_errors(found), (0, 0, 0, 2)))
    band = tpot_band(found)
    if band is not None:
        parts.append(Text(f"\nWith this profile TPOT has a range of {say.percent(band)} up and down."))
    return rendered(Group(*parts), width, False)


def _doubts(found: Calibration) -> Iterator[str]:
    """What speaks against the fit."""
    if found.undetermined:
        names = ", ".join(found.undetermined)
        yield f"The rows say little about {names} alone: these figures lean on what is shipped."
    if found.limited:
        names = ", ".join(found.limited)
        yield f"Held at the limit of what is possible: {names}.  Are formats and batches of the rows right?"
    worse = [v.left_out for v in found.validation if v.metric == "tpot" and v.after.mape > v.before.mape]
    if worse:
        yield f"TPOT is predicted no better than before where {' or '.join(worse)} was left out."


def _coefficients(found: Calibration) -> Table:
    table = plain_table("term", "fitted", "shipped", "", right=("fitted", "shipped"))
    for name, fitted, shipped, unit, about in _rows(found):
        table.add_row(name, say.rough(fitted, unit), say.rough(shipped, unit), about)
    return table


def _rows(found: Calibration) -> Iterator[tuple[str, float, float, str, str]]:
    for name, factor in found.factors.items():
        yield name, factor, 1.0, "", "factor on time"
    shipped = DEFAULT_OVERHEADS
    yield "layer overhead", found.layer_s, shipped.layer_s, "s", "per layer and step"
    yield "request overhead", found.request_s, shipped.request_s, "s", "per running request and step"
    yield "start of a prompt", found.first_token_s, shipped.first_token_s, "s", "per prompt"
    yield "wait for a step", found.wait_steps, shipped.wait_steps, "", "steps"
    yield "queue", found.burst, shipped.burst, "", "prompts ahead, per running request"


def _errors(found: Calibration) -> Table:
    columns = ("rows", "mean", "median", "bias", "within 20 %")
    table = plain_table("metric", "left out in turn", "", *columns, right=columns)
    for v in found.validation:
        for when, errors in (("before", v.before), ("after", v.after)):
            first = (METRICS[v.metric], v.left_out) if when == "before" else ("", "")
            table.add_row(*first, when, *_figures(errors))
    return table


def _figures(errors: Errors) -> tuple[str, ...]:
    return (
        str(errors.rows), f"{errors.mape:.1f}", f"{errors.median:.1f}", f"{errors.bias:+.1f}", f"{errors.within_20:.0f}"
    )  # fmt: skip
