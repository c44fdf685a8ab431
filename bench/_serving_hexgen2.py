"""HexGen-2's settings (arXiv 2502.07903; cases in the form of hexgen2.json).

One island of GPUs per kind, as the paper's Figure 4 shows: the measured bandwidth inside it, and the pair's bandwidth
between islands.  Workloads are the Azure conversation trace cut at 512 prompt and 128 output tokens, and the whole of
it for Online.  Offline, each plan gets more Poisson arrivals than it serves; online, all plans get the same arrivals,
at a share of what the homogeneous pool serves at most.  The paper's bars are measurements on real GPUs, so
that only ratios are compared; here plan and baselines alike are priced by hexc's cost model and played in its
simulator.  Baselines: 8 H100 for the same price, planned by hexc with all it has; the same mixed GPUs without
disaggregation, planned by hexc; and split evenly (`_serving_plans.evenly`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from _serving_plans import (
    IMPORTS,
    PHASES,
    Outcome,
    at_rate,
    evenly,
    figure_of,
    nodes,
    planned,
    runs_of,
    saturated,
)
from _serving_rows import Row, bar
from _serving_traces import Lengths, classes_of

from hexdsl.ir.plan import Plan

LATENCY = "0.2ms"
"""Between islands; not published."""

SHARE = 0.75
"""Arrivals online, as a share of the homogeneous pool's peak (section 5.1)."""

OPT = """model opt_30b {  # two matrices of 28,672 in a feed-forward block weigh as much as three of 19,112
  layers = 48, hidden = 7168, heads = 56, kv_heads = 56, head_dim = 128, ffn = 19_112, vocab = 50_272, tied = true
  context = 4096, family = "OPTForCausalLM", weights = fp16
}
"""
MODELS = {"llama2_70b_fig6": "llama2_70b", "opt_30b_fig7": "opt_30b"}
JUDGE, ONLINE = "hexc's simulator | paper's GPUs", "Online"
TO_HOME = "tok/s over 8 H100's"
PLAIN = "tok/s over 8 H100's as one replica, TP 8, not disaggregated"


@dataclass(frozen=True)
class Cell:
    """One bar of the paper: a model in a setting under a class of requests, and its ratio to DistServe on 8 H100."""

    model: str
    setting: str
    kind: str
    published: float
    lengths: Lengths

    @property
    def name(self) -> str:
        return f"{self.setting} {self.model} {self.kind}"


def cells(data: Mapping[str, Any]) -> Iterator[Cell]:
    """The bars of Figures 6, 7 and 9."""
    lengths = classes_of(data["workloads"])
    for figure, settings in data["throughput_tokens_per_s"].items():
        if figure in MODELS:
            for setting, bars in settings.items():
                for kind in (k for k in bars if k in lengths):
                    published = bars[kind]["hexgen2"] / bars[kind]["distserve_8xH100"]
                    yield Cell(MODELS[figure], setting, kind, published, lengths[kind])
    cheap = data.get("fig9_hetero5_70pct_budget")
    if cheap and lengths:
        for kind, ours, theirs in zip(
            cheap["columns_corrected"], cheap["hexgen2"], cheap["distserve_8xH100"], strict=True
        ):
            yield Cell("llama2_70b", "hetero5", kind, ours / theirs, lengths[kind])


def cell_rows(cell: Cell, data: Mapping[str, Any]) -> Iterator[Row]:
    text = spec(data["settings"][cell.setting]["gpus"], data, cell.model)
    home = planned(spec(data["settings"]["homogeneous"]["gpus"], data, cell.model), cell.lengths)
    mixed = planned(text, cell.lengths)
    usd = data["settings"][cell.setting]["usd_per_h"]
    yield _home_row(f"{cell.name} ${usd}/h", cell, mixed, home)
    yield _plain_row(cell, data, mixed)
    whole = planned(text.replace(PHASES, ""), cell.lengths).plan
    yield _over(cell.name, "tok/s, simulated", mixed, whole, "no disaggregation, same GPUs")
    even = evenly(text.replace(PHASES, ""), cell.lengths)
    yield _over(cell.name, "tok/s, simulated", mixed, even, "even split, same GPUs")
    served, own = figure_of(mixed.full, "throughput").mean, mixed.simulated("throughput").mean
    what = f"tok/s served when saturated (the planner's own simulation: {own:.4g})"
    yield Row("c", cell.name, what, served, mixed.figure("throughput"), "hexc's prediction", "hexc's simulator")
    if cell.kind == ONLINE and mixed.plan is not None and home.plan is not None:
        yield from _online_rows(cell, mixed.plan, home)


def _home_row(name: str, cell: Cell, mixed: Outcome, home: Outcome) -> Row:
    """The bound says what no plan on the mixed GPUs comes to over the homogeneous pool, both by the cost model."""
    ratio = figure_of(mixed.full, "throughput").over(figure_of(home.full, "throughput"))
    base = home.figure("throughput")
    model = mixed.figure("throughput") / base if base else 0.0
    bound = None if mixed.bound is None or not base else mixed.bound / base
    what = f"{TO_HOME} (predicted {model:.2f}): {mixed.layout} | {home.layout}"
    runs, whose = runs_of(mixed.full, ratio), "HexGen-2 / DistServe"
    return Row("c", name, what, ratio.mean, cell.published, whose, JUDGE, mixed.spent, bound=bound, runs=runs)


def _plain_row(cell: Cell, data: Mapping[str, Any], mixed: Outcome) -> Row:
    """The homogeneous pool as it is used without a planner; the paper's ratio is to DistServe's plan for it."""
    text = spec(data["settings"]["homogeneous"]["gpus"], data, cell.model).replace(PHASES, "")
    plain = planned(text.replace("maximize", "tp == 8\n  maximize"), cell.lengths)
    ratio = figure_of(mixed.full, "throughput").over(figure_of(plain.full, "throughput"))
    whose, runs = "HexGen-2 / DistServe", runs_of(mixed.full, ratio)
    return Row("c", cell.name, f"{PLAIN}: {plain.layout}", ratio.mean, cell.published, whose, JUDGE, runs=runs)


def _over(case: str, what: str, mixed: Outcome, other: Plan | None, whose: str) -> Row:
    """Met where hexc's plan is no worse, but for the noise of the simulation."""
    ours, theirs = (figure_of(p, "throughput") for p in (mixed.full, saturated(other)))
    ratio = ours.over(theirs)
    met = bar(ratio.mean + ratio.half >= 1)
    runs = runs_of(mixed.full, ratio)
    return Row("c", case, what, ours.mean, theirs.mean, whose, "hexc's simulator", mixed.spent, met, runs=runs)


def _online_rows(cell: Cell, mixed: Plan, home: Outcome) -> Iterator[Row]:
    """Latencies at equal arrivals; the paper's claim is about deadlines, 1.5 times lower on average."""
    assert home.plan is not None
    rate = SHARE * figure_of(home.full, "goodput").mean
    ours, theirs = at_rate(mixed, rate), at_rate(home.plan, rate)
    for metric in ("mean(latency)", "p95(latency)", "mean(ttft)"):
        ratio = figure_of(theirs, metric).over(figure_of(ours, metric))
        what = f"{metric.replace('mean(latency)', 'mean latency')} of 8 H100 over hexc's, {rate:.3g} req/s"
        published = 1.5 if "mean(latency)" in metric else ""
        yield Row("c", cell.name, what, ratio.mean, published, "HexGen-2", JUDGE, runs=runs_of(ours, ratio))


def summary(rows: Sequence[Row]) -> Iterator[Row]:
    """The paper's claims over all bars, beside hexc's ratios over the same bars."""
    bars = [r for r in rows if r.part == "c" and not r.case.startswith("hetero5")]
    plain = [float(r.hexc) for r in bars if r.figure.startswith(PLAIN)]
    found = [r for r in bars if r.figure.startswith(TO_HOME) and not r.figure.startswith(PLAIN)]
    ratios = [float(r.hexc) for r in found]
    if not ratios:
        return
    bounds = [r.bound for r in found if r.bound is not None]
    for what, how, claim in (("most", max, 2.0), ("mean", mean, 1.3)):
        value = how(ratios)
        text = f"{what} of {len(ratios)} ratios; HexGen-2's own bars give {how([float(r.other) for r in found]):.2f}"
        text += f"; over one replica of 8 H100: {how(plain):.2f}" if plain else ""
        judge = "hexc's simulator | paper's GPUs"
        yield Row("c", "HexGen-2, all settings", text, value, claim, "claim", judge, None, bar(value >= claim),
                  bound=how(bounds) if bounds else None)  # fmt: skip


def spec(gpus: Mapping[str, int], data: Mapping[str, Any], model: str, copies: int = 1) -> str:
    """The setting as a spec: bandwidths are per direction, `interconnect` counts both."""
    wide = data["bandwidth_gbps_by_type"]["read"]
    parts = [_island(g, n, wide[f"{g}-{g}"], copies) for g, n in gpus.items()]
    names = list(gpus)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            speed = wide.get(f"{a}-{b}", wide.get(f"{b}-{a}"))
            parts.append(f"  {a.lower()} <-> {b.lower()} {{ bandwidth = {speed}Gb/s, latency = {LATENCY} }}\n")
    return (
        f"{IMPORTS}{OPT if model == 'opt_30b' else ''}cluster c {{\n{''.join(parts)}}}\n"
        "workload w { prompt = 1000 }\n"
        f"serve s {{\n  model = {model}, on = c, workload = w\n{PHASES}  maximize throughput\n}}\n"
    )


def _island(gpu: str, size: int, gbps: float, copies: int) -> str:
    """GPUs of a kind; several copies of an island are as far apart as they say of nothing: by a card of 100 Gb/s."""
    more = (f"interconnect = {gbps / 4:.1f}GB/s", *(("nic = 100Gb/s",) if copies > 1 else ()))
    return nodes(gpu.lower(), copies, size, gpu, more)
