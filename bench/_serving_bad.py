"""Bad input: each case must end with a plan that holds or with a diagnostic that says what is wrong, and soon."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from _serving_plans import IMPORTS, PHASES, planned
from _serving_rows import Job, Row, bar, listed

PATIENCE_S = 60.0

LOAD = "workload w { arrivals = poisson(2req/s), prompt = lognormal(median = 900, p95 = 4000), output = 220tok }"


def _text(parts: str, model: str = "llama70b", goal: str = "maximize throughput") -> str:
    serve = f"serve s {{\n  model = {model}, on = c, workload = w\n{PHASES}  {goal}\n}}\n"
    return f"{IMPORTS}cluster c {{\n{parts}\n}}\n{LOAD}\n{serve}"


def _islands(count: int, linked: int) -> str:
    """Groups of one GPU each, of which the first so many are joined in a row."""
    groups = [f"  nodes n{i} {{ gpus = 1 * L40S, nic = 10Gb/s }}" for i in range(count)]
    links = [f"  n{i} <-> n{i + 1} {{ bandwidth = 10Gb/s, latency = 1ms }}" for i in range(linked - 1)]
    return "\n".join((*groups, *links))


CASES: dict[str, tuple[str, str]] = {
    "GPUs that none can reach, the rest holds the model": (
        _text("  nodes a { gpus = 8 * H100 }\n  nodes far { gpus = 2 * A100 }"), "plan",
    ),
    "no GPU reaches another, none holds the model": (_text(_islands(6, 1)), "P0"),
    "links in three parts, one of which holds the model": (
        _text("  nodes a { gpus = 2 * H100 }\n  nodes b { gpus = 2 * H100 }\n  nodes c { gpus = 4 * L4 }\n"
              "  a <-> b { bandwidth = 100Gb/s, latency = 20us }"), "plan",
    ),
    "a model that fits nowhere": (_text("  nodes a { count = 2, gpus = 4 * L4, nic = 10Gb/s }", "deepseek_v3"), "P0"),
    "a model that fits nowhere, least cost": (_text("  nodes a { gpus = 1 * T4 }", goal="minimize cost"), "P0"),
    "a price of zero, least cost": (
        _text("  nodes a { gpus = 8 * H100, price = $0/gpu/h }", goal="minimize cost"), "plan",
    ),
    "a price of zero, cost <= $0/h": (
        _text("  nodes a { gpus = 8 * H100, price = $2/gpu/h }", goal="cost <= $0/h\n  maximize goodput"), "P0",
    ),
    "a latency of zero": (_text("  nodes a { gpus = 8 * H100 }", goal="p95(ttft) <= 0ms\n  maximize goodput"), "P0 E"),
    "a link of no bandwidth": (
        _text("  nodes a { gpus = 1 * H100 }\n  nodes b { gpus = 1 * H100 }\n"
              "  a <-> b { bandwidth = 0Gb/s, latency = 1ms }"), "P0 E",
    ),
    "no machines": (_text("  nodes a { count = 0, gpus = 8 * H100 }"), "P0 E"),
    "10,000 machines of one kind": (_text("  nodes a { count = 10_000, gpus = 8 * H100, nic = 400Gb/s }"), "plan P0 E"),
    "400 blocks of one GPU in a row": (_text(_islands(400, 400)), "plan P0 E"),
    "10,000 blocks of nodes": (_text(_islands(10_000, 1)), "plan P0 E"),
    "10,000 blocks of nodes in a row of links": (_text(_islands(10_000, 10_000)), "plan P0 E S0"),
}  # fmt: skip
"""A spec, and how its planning may end: with a plan, or with a code that begins so."""


def jobs() -> Iterator[Job]:
    yield from (partial(listed, _row, case) for case in CASES)


def _row(case: str) -> Iterator[Row]:
    text, wanted = CASES[case]
    outcome = planned(text)
    ending = "plan" if outcome.plan is not None else outcome.why
    right = any(ending.startswith(w) for w in wanted.split())
    held = outcome.plan is None or outcome.holds
    met = bar(right and held and outcome.spent.cpu_s <= PATIENCE_S)
    what = f"a plan: {outcome.layout}" if outcome.plan is not None else outcome.why
    yield Row("g", case, what[:300], outcome.spent.cpu_s, PATIENCE_S, "patience, cpu s", "outcome", outcome.spent, met)
