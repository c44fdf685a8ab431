"""HexGen-2's settings (arXiv 2502.07903; cases in the form of hexgen2.json) and ThunderServe's link test (2502.09334).

One island of GPUs per kind, as the paper's Figure 4 shows: the measured bandwidth inside it, and the pair's bandwidth
between islands.  Workload classes are the Azure conversation trace cut at 512 prompt and 128 output tokens, of which
the median and the 95 % quantile are given to hexc.  Every plan, ours and the baselines', is made by hexc's planner,
priced by its cost model and played in its simulator without a limit on arrivals (the paper's offline mode: generated
tokens/s); the paper's bars are measurements on real GPUs, so that only ratios are compared.
Baselines: one homogeneous pool of the same price; `parted` (every kind serves alone, nothing is mixed), which a plan of
the whole can always be, so that it must not be better.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from _catalog import DATA
from _serving_plans import IMPORTS, Outcome, nodes, planned
from _serving_rows import Row, bar

TRACE = DATA / "traces" / "azure_2023_conv.csv"
GPUS = {"H100": "H100", "A100": "A100", "L40": "L40", "A6000": "A6000"}
LATENCY = "0.2ms"
"""Between islands; not published."""

Lengths = tuple[tuple[float, float], tuple[float, float]]
"""Median and 95 % quantile of prompts and of outputs."""


def rows(data: Mapping[str, Any]) -> Iterator[Row]:
    """Llama-2-70B in every setting and class of the paper's Figure 6, then the link test."""
    classes = lengths_by_class(data["workloads"])
    settings, prices = data["settings"], data["usd_per_gpu_h"]
    for name, figures in data["throughput_tokens_per_s"]["llama2_70b_fig6"].items():
        for kind, lens in classes.items():
            gpus = settings[name]["gpus"]
            home = planned(spec(settings["homogeneous"]["gpus"], data, kind, lens))
            parted = [planned(spec({g: n}, data, kind, lens)) for g, n in gpus.items()]
            usd = sum(prices[g] * n for g, n in gpus.items())
            outcome = planned(spec(gpus, data, kind, lens))
            yield from _setting_rows(f"{name} {kind} ${usd:.1f}/h", outcome, home, parted, figures[kind])
    yield from link_test()


def _setting_rows(
    case: str, outcome: Outcome, home: Outcome, parted: Sequence[Outcome], published: Mapping[str, float]
) -> Iterator[Row]:
    theirs = published["hexgen2"] / published["distserve_8xH100"]
    model, played = (ratio(f, outcome, [home]) for f in (predicted, simulated))
    judge, whose = "hexc's simulator | paper's GPUs", "HexGen-2 / DistServe"
    what = f"ratio to 8 H100 (predicted {model:.2f}): {outcome.layout}"
    yield Row("f", case, what, played, theirs, whose, judge, outcome.spent)
    model, played = (ratio(f, outcome, parted) for f in (predicted, simulated))
    what = f"ratio to every kind alone (simulated {played:.2f})"
    yield Row("f", case, what, model, "", "parted, hexc", "hexc's cost model", met=bar(model >= 0.999))


def predicted(outcome: Outcome) -> float:
    return outcome.figure("throughput")


def simulated(outcome: Outcome) -> float:
    return 0.0 if outcome.plan is None else outcome.simulated("throughput")


def ratio(figure: Callable[[Outcome], float], outcome: Outcome, others: Sequence[Outcome]) -> float:
    """A plan's figure over the sum of others'."""
    total = sum(map(figure, others))
    return figure(outcome) / total if total else float("inf")


def lengths_by_class(cut: Mapping[str, Any]) -> dict[str, Lengths]:
    """The trace's lengths by heavy and light prompts and outputs; nothing where the trace is not there."""
    if not TRACE.exists():
        return {}
    with TRACE.open(encoding="utf-8") as file:
        pairs = np.array([(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(file)])
    heavy_p, heavy_d = pairs[:, 0] > cut["heavy_prefill_over_tokens"], pairs[:, 1] > cut["heavy_decode_over_tokens"]
    found = {}
    for name in cut["classes"]:
        some = pairs[(heavy_p == (name[0] == "H")) & (heavy_d == (name[2] == "H"))]
        found[name] = tuple((float(np.median(c)), float(np.percentile(c, 95))) for c in some.T)
    return found  # type: ignore[return-value]


def spec(gpus: Mapping[str, int], data: Mapping[str, Any], name: str, lengths: Lengths) -> str:
    """The setting as a spec: bandwidths are per direction, `interconnect` counts both."""
    wide = data["bandwidth_gbps_by_type"]["read"]
    parts = [nodes(g.lower(), 1, n, GPUS[g], (_inside(wide[f"{g}-{g}"]),)) for g, n in gpus.items()]
    names = list(gpus)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            speed = wide.get(f"{a}-{b}", wide.get(f"{b}-{a}"))
            parts.append(f"  {a.lower()} <-> {b.lower()} {{ bandwidth = {speed}Gb/s, latency = {LATENCY} }}\n")
    (p50, p95), (d50, d95) = lengths
    return (
        f"{IMPORTS}cluster c {{\n{''.join(parts)}}}\n"
        f"workload w {{ {_length('prompt', p50, p95)}, {_length('output', d50, d95)} }}\n"
        f"serve {name.lower()} {{\n  model = llama2_70b, on = c, workload = w\n  maximize throughput\n}}\n"
    )


def _inside(gbps: float) -> str:
    return f"interconnect = {gbps / 4:.1f}GB/s"


def _length(name: str, median: float, high: float) -> str:
    return f"{name} = lognormal(median = {max(1.0, median):.0f}, p95 = {max(high, median + 1):.0f})"


LINK_SPEC = """model llama30b {
  layers = 60, hidden = 6656, heads = 52, kv_heads = 52, head_dim = 128, ffn = 17_920, vocab = 32_000, tied = false
  context = 4096, family = "LlamaForCausalLM", weights = fp16
}
"""
LINK_BARS = {40: 3292.0, 5: 2196.0}
ALONE = 1610.0
"""ThunderServe's link test, tokens/s: 4 A40 and 4 3090Ti, disaggregated at so many Gb/s, and not disaggregated."""


def link_test() -> Iterator[Row]:
    """The published gain is over serving without disaggregation; ours is over the two halves serving alone."""
    parts = {
        "a40": nodes("a40", 1, 4, "A40", ("interconnect = 64GB/s",)),
        "ti": nodes("ti", 1, 4, "RTX_3090_TI", ("interconnect = 64GB/s",)),
    }
    alone = [planned(_link_spec(p)) for p in parts.values()]
    for speed, published in LINK_BARS.items():
        link = f"  a40 <-> ti {{ bandwidth = {speed}Gb/s, latency = 0.2ms }}\n"
        outcome = planned(_link_spec("".join(parts.values()) + link))
        played, whose = ratio(simulated, outcome, alone), "disaggregated / not"
        what = f"ratio to no link (predicted {ratio(predicted, outcome, alone):.2f}): {outcome.layout}"
        judge = "hexc's simulator | paper's GPUs"
        yield Row("f", f"ThunderServe, link {speed} Gb/s", what, played, published / ALONE, whose, judge, outcome.spent)


def _link_spec(parts: str) -> str:
    return (
        f"{IMPORTS}{LINK_SPEC}cluster c {{\n{parts}}}\nworkload w {{ prompt = lognormal(median = 900, p95 = 4000), "
        "output = lognormal(median = 130, p95 = 450) }\nserve s {\n  model = llama30b, on = c, workload = w\n"
        "  maximize throughput\n}\n"
    )
