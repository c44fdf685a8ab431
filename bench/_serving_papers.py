"""HexGen-2's own plans priced by hexc, its scheduler's times, and ThunderServe's settings (arXiv 2502.09334)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any

import _serving_hexgen2 as hexgen2
import numpy as np
from _serving_plans import (
    IMPORTS,
    PHASES,
    Figure,
    at_rate,
    evenly,
    figure_of,
    nodes,
    planned,
    planned_once,
    runs_of,
    saturated,
)
from _serving_rows import Job, Row, bar, listed
from _serving_traces import Lengths, classes_of, pairs_of

from hexdsl.ir.plan import Plan
from hexdsl.passes.serve.phases import prefill_points
from hexdsl.passes.serve.points import Pricer
from hexdsl.passes.serve.problem import problem_of
from hexdsl.passes.serve.shapes import Shape, Slot

Group = Mapping[str, Any]
JUDGE = "hexc's cost model"


def paper_jobs(data: Mapping[str, Any]) -> Iterator[Job]:
    """HexGen-2: its bars, its plans of Table 2 and of Appendix E, and Table 5's times."""
    lengths = classes_of(data["workloads"])
    if not lengths:
        return
    for cell in hexgen2.cells(data):
        yield partial(listed, _bar_rows, cell, data)
    small = data["appendix_e_case"]
    yield partial(
        listed, _own_plan, "4 H100 + 4 A100 LPHD", small["gpus"], data, "llama2_70b", _small(small), lengths["LPHD"]
    )
    for size, minutes in data["table5_scheduler_minutes"].items():
        if size.isdigit():
            yield partial(listed, _schedule, int(size), float(minutes), data, lengths["HPHD"])


def _bar_rows(cell: hexgen2.Cell, data: Mapping[str, Any]) -> Iterator[Row]:
    yield from hexgen2.cell_rows(cell, data)
    groups = data["table2_plans_online"].get(cell.model, {}).get(cell.setting)
    if groups:
        gpus = data["settings"][cell.setting]["gpus"]
        yield from _own_plan(cell.name, gpus, data, cell.model, groups, cell.lengths)


def _small(case: Mapping[str, Any]) -> list[Group]:
    """The groups of Appendix E before refinement; after it prefill has one GPU of each kind, decode three."""
    (tp, pp), (dtp, dpp) = case["prefill_tp_pp"], case["decode_tp_pp"]
    first = [{"gpus": case["groups"][g], "tp": tp, "pp": pp, "role": "prefill"} for g in case["prefill"]]
    return first + [{"gpus": case["groups"][g], "tp": dtp, "pp": dpp, "role": "decode"} for g in case["decode"]]


def _own_plan(
    case: str, gpus: Mapping[str, int], data: Mapping[str, Any], model: str, groups: Sequence[Group], lengths: Lengths
) -> Iterator[Row]:
    """The paper's groups at the rates of hexc's cost model, over links as fast as need be, which favours them."""
    outcome = planned(hexgen2.spec(gpus, data, model), lengths)
    if outcome.plan is None:
        yield Row("c", case, "tok/s", outcome.why, "", "HexGen-2's plan", JUDGE, outcome.spent, "no")
        return
    pricer = Pricer(problem_of(outcome.plan))
    rates = {role: sum(_rate(pricer, g) for g in groups if g["role"] == role) for role in ("prefill", "decode")}
    theirs = min(rates.values()) * pricer.problem.output
    what = f"tok/s predicted; theirs: prefill {rates['prefill']:.3g}, decode {rates['decode']:.3g} req/s"
    ours = outcome.figure("throughput")
    met, whose = bar(ours >= theirs * 0.999), "HexGen-2's own plan"
    yield Row("c", case, what, ours, theirs, whose, JUDGE, outcome.spent, met, bound=outcome.bound)


def _rate(pricer: Pricer, group: Group) -> float:
    """Requests/s of a group with the better order of its kinds; 0 where it does not hold the model."""
    classes = {c.gpu.name: i for i, c in enumerate(pricer.problem.classes)}
    slots = [
        Slot(classes[g], i, group["tp"])
        for i, (g, n) in enumerate(group["gpus"].items())
        for _ in range(n // group["tp"])
    ]
    shapes = [Shape(tuple(slots)), Shape(tuple(reversed(slots)))]
    points = prefill_points(pricer, shapes) if group["role"] == "prefill" else pricer.points(shapes, "decode")
    return max((float(np.max(p.rate)) for p in points), default=0.0)


def _schedule(size: int, minutes: float, data: Mapping[str, Any], lengths: Lengths) -> Iterator[Row]:
    """Machines of eight GPUs, equally many of each kind, with the paper's bandwidths between the kinds."""
    kinds = ("H100", "A100", "L40", "A6000")
    text = hexgen2.spec(dict.fromkeys(kinds, 8), data, "llama2_70b", size // 8 // len(kinds))
    outcome = planned(text, lengths)
    what = f"seconds of the scheduler, gap {outcome.plan.certificates[0].gap:.1%}" if outcome.plan else outcome.why
    met = bar(outcome.plan is not None and outcome.spent.cpu_s < 60 * minutes)
    yield Row("c", f"{size} GPUs, Llama-2-70B", what, outcome.spent.cpu_s, 60 * minutes, "HexGen-2's scheduler",
              "this machine | theirs", outcome.spent, met)  # fmt: skip


# --- ThunderServe ---

MODEL = """model llama30b {
  layers = 60, hidden = 6656, heads = 52, kv_heads = 52, head_dim = 128, ffn = 17_920, vocab = 32_000, tied = false
  context = 4096, family = "LlamaForCausalLM", weights = fp16
}
"""
ALONE, LINK_BARS = 1610.0, {40: 3292.0, 5: 2196.0}
"""ThunderServe's link test, tokens/s: 4 A40 and 4 3090Ti, not disaggregated, and disaggregated at so many Gb/s."""

CLOUD = {"A6000": (2, 4), "A5000": (2, 4), "A40": (1, 8), "RTX_3090_TI": (2, 4)}
"""Machines and their GPUs that make 32 rented GPUs for $13.54/h; the paper's rented machines are not published, so that
the mix is ours; the price is the paper's."""

CLOUD_USD, HOME_USD = 13.54, 14.02
BARS = {"most": 2.1, "mean": 1.7}
TO_HOME = "tok/s over 8 A100's"


def thunder_jobs() -> Iterator[Job]:
    if pairs_of("conv"):
        yield partial(listed, _link_rows)
        yield from (partial(listed, _cloud_rows, name) for name in ("conv", "code"))


def _serve(parts: str, phased: bool = True) -> str:
    return (
        f"{IMPORTS}{MODEL}cluster c {{\n{parts}}}\nworkload w {{ prompt = 1000 }}\nserve s {{\n"
        f"  model = llama30b, on = c, workload = w\n{PHASES if phased else ''}  maximize throughput\n}}\n"
    )


def _link_rows() -> Iterator[Row]:
    """The published figures are for one fixed split into phases; so is the row `pinned`, where each half does one."""
    lengths, parts = Lengths.of(pairs_of("conv")), ""
    for name, gpu in (("a40", "A40"), ("ti", "RTX_3090_TI")):
        parts += nodes(name, 1, 4, gpu, ("interconnect = 64GB/s",))
    for speed, published in LINK_BARS.items():
        linked = parts + f"  a40 <-> ti {{ bandwidth = {speed}Gb/s, latency = 0.2ms }}\n"
        case, text = f"ThunderServe, 4 A40 + 4 3090Ti, {speed} Gb/s", _serve(linked)
        plain, free = planned(_serve(linked, phased=False), lengths), planned(text, lengths)
        best = max([p for p in (_pinned(text, lengths, a, b) for a, b in (("a40", "ti"), ("ti", "a40"))) if p],
                   key=lambda p: figure_of(p, "throughput").mean, default=None)  # fmt: skip
        base = figure_of(plain.full, "throughput")
        for what, plan, spent in (
            (f"chosen: {free.layout}", free.plan, free.spent),
            ("each half one phase", best, None),
        ):
            full = saturated(plan)
            ratio = figure_of(full, "throughput").over(base)
            yield Row("d", case, f"tok/s over not disaggregated, {what}", ratio.mean, published / ALONE,
                      "ThunderServe, disaggregated / not", hexgen2.JUDGE, spent, bar(ratio.mean >= published / ALONE),
                      bound=None if free.bound is None else free.bound / plain.figure("throughput"),
                      runs=runs_of(full, ratio))  # fmt: skip


def _pinned(text: str, lengths: Lengths, first: str, then: str) -> Plan | None:
    """The first plan with each phase bound to a half."""
    phases = f"  phase prefill {{ on = {first} }}\n  phase decode {{ on = {then} }}\n"
    return planned_once(text.replace(PHASES, phases), lengths).plan


def _cloud_rows(name: str) -> Iterator[Row]:
    parts = "".join(nodes(g.lower(), n, size, g, ("nic = 10Gb/s",)) for g, (n, size) in CLOUD.items())
    names = [g.lower() for g in CLOUD]
    parts += "".join(
        f"  {a} <-> {b} {{ bandwidth = 10Gb/s, latency = 0.5ms }}\n" for i, a in enumerate(names) for b in names[:i]
    )
    lengths, text = Lengths.of(pairs_of(name)), _serve(parts)
    mixed, home = (
        planned(text, lengths),
        planned(_serve(nodes("h", 1, 8, "A100", ("interconnect = 600GB/s",))), lengths),
    )
    case = f"ThunderServe, 32 cloud GPUs ${CLOUD_USD}/h, {name}"
    ratio = figure_of(mixed.full, "throughput").over(figure_of(home.full, "throughput"))
    base = home.figure("throughput")
    model = mixed.figure("throughput") / base
    what = f"{TO_HOME} at ${HOME_USD}/h (predicted {model:.2f}): {mixed.layout} | {home.layout}"
    bound = None if mixed.bound is None else mixed.bound / base
    yield Row(
        "d", case, what, ratio.mean, "", "", hexgen2.JUDGE, mixed.spent, bound=bound, runs=runs_of(mixed.full, ratio)
    )
    whole = planned(text.replace(PHASES, ""), lengths).plan
    for other, whose in (
        (whole, "no disaggregation, same GPUs"),
        (evenly(text.replace(PHASES, ""), lengths), "even split, same GPUs"),
    ):
        ours_full, theirs = (figure_of(p, "throughput") for p in (mixed.full, saturated(other)))
        gain = ours_full.over(theirs)
        yield Row("d", case, "tok/s, simulated", ours_full.mean, theirs.mean, whose, "hexc's simulator",
                  None, bar(gain.mean + gain.half >= 1), runs=runs_of(mixed.full, gain))  # fmt: skip
    if mixed.plan is None or home.plan is None:
        return
    rate = hexgen2.SHARE * figure_of(home.full, "goodput").mean
    ours, theirs_at = at_rate(mixed.plan, rate), at_rate(home.plan, rate)
    lower: Figure = figure_of(theirs_at, "p95(latency)").over(figure_of(ours, "p95(latency)"))
    what = f"deadline that 95 % keep: 8 A100's over hexc's, {rate:.3g} req/s"
    runs, met = runs_of(ours, lower), bar(lower.mean >= 1.5)
    yield Row("d", case, what, lower.mean, 1.5, "claim, mean", hexgen2.JUDGE, met=met, runs=runs)


def thunder_summary(rows: Sequence[Row]) -> Iterator[Row]:
    ratios = [float(r.hexc) for r in rows if r.part == "d" and r.figure.startswith(TO_HOME)]
    bounds = [r.bound for r in rows if r.part == "d" and r.figure.startswith(TO_HOME) and r.bound is not None]
    for what, claim in BARS.items() if ratios else ():
        how = max if what == "most" else mean
        yield Row("d", "ThunderServe, both traces", f"{what} of {len(ratios)} ratios", how(ratios), claim, "claim",
                  hexgen2.JUDGE, None, bar(how(ratios) >= claim), bound=how(bounds) if bounds else None)  # fmt: skip
