"""Helix's placement problem (ASPLOS 2025; cases in the form of helix24.json): flow, depth, bounds, simulation.

Judges: the maximum flow by networkx's preflow-push, with node rates from the case's own tables; for latencies an event
simulation (`hexdsl.passes.pool.play`) whose step times are those that Helix's profiles give (see CURVES).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from _serving_rows import Row, bar, timed

from hexdsl.ir.chains import Turns, chains_of
from hexdsl.passes.pool.bounds import compute_bound, coverage_bound, flow_bound
from hexdsl.passes.pool.flow import Flow, max_flow
from hexdsl.passes.pool.kinds import Holder, Kind, Links, Wire
from hexdsl.passes.pool.network import plan_pool
from hexdsl.passes.pool.patterns import front, plan_line
from hexdsl.passes.pool.play import Asked, Pace, Played, play

BAR_FLOW, BAR_DEPTH, BAR_S = 1495.0, 13, 2.0

CURVES = {"A100": (1.4, 5.0, 8.0), "V100": (2.4, 10.0, 19.0), "L4": (7.1, 20.0, 38.0), "T4": (7.6, 31.0, 59.0)}
"""Milliseconds of a LLaMA-2-70B layer: decode steps of 10 and of 300 requests, and a prompt of 1000 tokens (profiles in
Thesys-lab/Helix-ASPLOS25, simulator/model_manager)."""

PROMPT, OUTPUT = 750.0, 240.0
"""Mean tokens of the Azure conversation trace as Helix uses it."""

LOADS = (0.3, 0.6)
"""Arrivals as a share of what the published plan's flow could take."""

WINDOW_S = 240.0


@dataclass(frozen=True)
class Case:
    """Nodes by name with their kinds, the model, the links, and the plans of others with their published flows."""

    name: str
    types: tuple[str, ...]
    kinds: tuple[Kind, ...]
    layers: int
    links: Links
    latency_s: float
    activation_bytes: float
    others: Mapping[str, tuple[tuple[Holder, ...], float, float | None]]

    def holders(self, spans: Mapping[int, tuple[int, int]]) -> tuple[Holder, ...]:
        rates = {k.name: k.rates for k in self.kinds}
        return tuple(
            Holder(f"{self.types[i]}-{i}", a, b, rates[self.types[i]][b - a - 1]) for i, (a, b) in sorted(spans.items())
        )


def read_case(data: Mapping[str, Any]) -> Case:
    """A case in the form of helix24.json.  Raises ValueError for links that are not uniform."""
    types, model = tuple(data["inventory"]["node_types"]), data["model"]
    how, (bandwidth, latency) = data["inventory"]["links"]
    if how != "uniform":
        raise ValueError(f"links {how!r} are not read: only uniform ones")
    size, counts = model["activation_bytes"], Counter(types)
    kinds = tuple(Kind(t, counts[t], _rates(model["types"][t])) for t in sorted(counts))
    nic = data["inventory"].get("nic_bytes_per_s", float("inf")) / size
    links = Links(Wire(bandwidth / size, latency), {}, nic, Wire(bandwidth / model["token_bytes"], latency))
    bare = Case(data["case"], types, kinds, model["num_layers"], links, latency, size, {})
    others = {}
    for name, peer in data.get("peers", {}).items():
        spans = {int(n.rsplit("_", 1)[1]) - 2: tuple(s) for n, s in peer["plan_[start,end)"].items()}
        others[name] = (bare.holders(spans), peer["max_flow_recomputed_networkx"], peer["seconds"])
    return Case(bare.name, types, kinds, bare.layers, links, latency, size, others)


def _rates(table: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(table["tput_tokens_s"][str(n)] for n in range(1, table["max_layers"] + 1))


def swarm_spans(case: Case) -> dict[int, tuple[int, int]]:
    """SWARM-style (arXiv 2301.11913): equal stages that every kind can hold; each node goes to the weakest stage."""
    stages = -(-case.layers // min(k.most for k in case.kinds))
    edges = [case.layers * s // stages for s in range(stages + 1)]
    rates, power = {k.name: k.rates for k in case.kinds}, [0.0] * stages
    spans = {}
    order = sorted(range(len(case.types)), key=lambda i: -rates[case.types[i]][0])
    for i in order:
        s = min(range(stages), key=lambda s: power[s])
        power[s] += rates[case.types[i]][edges[s + 1] - edges[s] - 1]
        spans[i] = (edges[s], edges[s + 1])
    return spans


def petals_spans(case: Case) -> dict[int, tuple[int, int]]:
    """Petals-style (arXiv 2209.01188): nodes in turn take as many layers as fit, where throughputs are the worst."""
    rates, power = {k.name: k.rates for k in case.kinds}, [0.0] * case.layers
    spans = {}
    for i, kind in enumerate(case.types):
        n = len(rates[kind])
        a = min(range(case.layers - n + 1), key=lambda a: sorted(power[a : a + n]))
        power[a : a + n] = [p + rates[kind][n - 1] for p in power[a : a + n]]
        spans[i] = (a, a + n)
    return spans


def rows(data: Mapping[str, Any]) -> Iterator[Row]:
    """All rows of a case; the bars apply to the published one."""
    case = read_case(data)
    published = max((flow for _, flow, _ in case.others.values()), default=0.0)
    whose = "best published" if case.others else ""
    yield from _flow_rows(case, published, whose)
    yield from _other_rows(case)
    yield from _region_rows(case)
    yield from _latency_rows(case)


def _row(case: Case, figure: str, hexc: float | str, other: float | str, whose: str, judge: str, **more: Any) -> Row:
    return Row("a", case.name, figure, hexc, other, whose, judge, **more)


def _flow_rows(case: Case, published: float, whose: str) -> Iterator[Row]:
    """The bar is the one of the published 24-node case, and there only."""
    known = any("helix" in name for name in case.others) and len(case.types) == 24
    for depth in (12, BAR_DEPTH, None):
        line, spent = timed(lambda d=depth: plan_line(case.kinds, case.layers, d))  # type: ignore[misc]
        limit = f"at most {depth} stages" if depth else "any depth"
        if line is None:
            yield _row(case, f"max flow, {limit}", "no plan", published, whose, "preflow-push", spent=spent)
            continue
        flow = max_flow(line.holders, case.layers, case.links)
        met = bar(flow.value >= BAR_FLOW and spent.cpu_s <= BAR_S) if known and depth == BAR_DEPTH else ""
        what = f"max flow tok/s, {limit} ({flow.depth:.0f} used, {flow.nodes} nodes)"
        yield _row(case, what, flow.value, published, whose, "preflow-push", spent=spent, met=met)
        bound = flow_bound(case.kinds, case.layers, depth)
        what = f"bound tok/s, {limit}: gap {1 - flow.value / bound:.2%}"
        yield _row(case, what, bound, "", "", "layer demand, independent")
    loose, knapsack = compute_bound(case.kinds, case.layers), coverage_bound(case.kinds, case.layers)
    yield _row(case, "bounds tok/s: coverage knapsack | compute", knapsack, loose, "compute alone", "independent")
    lines, spent = timed(lambda: front(case.kinds, case.layers))
    text = " ".join(f"{x.depth}:{x.flow:.0f}" for x in lines)
    yield _row(case, "front of stages:tok/s", text, "", "", "rates of the stages", spent=spent)


def _other_rows(case: Case) -> Iterator[Row]:
    for name, (holders, flow, seconds) in case.others.items():
        found = max_flow(holders, case.layers, case.links)
        what = f"max flow tok/s of {name} (depth {found.depth:.1f}, planned in {seconds or '?'} s)"
        yield _row(case, what, found.value, flow, "as published", "preflow-push", met=bar(abs(found.value - flow) < 1))
    for name, spans in (("swarm", swarm_spans(case)), ("petals", petals_spans(case))):
        for partial in (False, True):
            found = max_flow(case.holders(spans), case.layers, case.links, partial)
            how = f"max flow tok/s, {name} style, ours{', partial ranges' if partial else ''}"
            yield _row(case, how, found.value, "", "baseline", "preflow-push")


SLOW = Wire(12.5e6, 0.05)
"""Between regions in the made-up variant: 100 Mb/s (in bytes here) and 50 ms."""


def _region_rows(case: Case) -> Iterator[Row]:
    """The same nodes in three regions with slow wires between them; the first kind in one, the others halved."""
    kinds = [k for i, kind in enumerate(case.kinds) for k in _in_regions(kind, i)]
    per_s = case.links.usual.tokens_s
    slow = Wire(min(per_s, SLOW.tokens_s / case.activation_bytes), SLOW.latency_s)
    pairs = {("r0", "r1"): slow, ("r0", "r2"): slow, ("r1", "r2"): slow}
    links = Links(case.links.usual, pairs, case.links.nic, case.links.entry)
    blind = plan_line(kinds, case.layers)
    pool, spent = timed(lambda: plan_pool(kinds, case.layers, links))
    if blind is None or pool is None:
        return
    other = max_flow(blind.holders, case.layers, links).value
    what = f"max flow tok/s, 3 regions at 100 Mb/s, any depth ({len(pool.routes)} pipelines, gap {pool.gap:.1%})"
    met = bar(pool.flow.value >= other * (1 - 1e-6))
    yield _row(case, what, pool.flow.value, other, "plan that ignores wires", "preflow-push", spent=spent, met=met)


def _in_regions(kind: Kind, index: int) -> list[Kind]:
    if index == 0:
        return [replace(kind, region="r0")]
    half = kind.count // 2
    return [
        replace(kind, name=f"{kind.name}/{r}", region=r, count=n) for r, n in (("r1", half), ("r2", kind.count - half))
    ]


def _latency_rows(case: Case) -> Iterator[Row]:
    """Prompt and token latency of the plans at equal arrivals."""
    ours = {f"{d} stages": plan_line(case.kinds, case.layers, d) for d in (12, BAR_DEPTH)}
    name = next((n for n in case.others if "helix" in n), None)
    if name is None or not set(case.types) <= CURVES.keys() or not all(ours.values()):
        return
    flow = case.others[name][1]
    for share in LOADS:
        asked = requests(share * flow / (PROMPT + OUTPUT), WINDOW_S)
        theirs = simulated(case, case.others[name][0], asked)
        for label, line in ours.items():
            assert line is not None
            mine = simulated(case, line.holders, asked)
            for what, a, b in (("token", mine.token_s, theirs.token_s), ("prompt", mine.first_s, theirs.first_s)):
                for level in (50, 95):
                    x, y = float(np.percentile(a, level)), float(np.percentile(b, level))
                    figure = f"{what} latency p{level} s at {share:.0%} load, {label}"
                    yield _row(case, figure, x, y, name, "event simulation, profiles", met=bar(x <= y * 1.001))


def requests(rate: float, span_s: float, seed: int = 0) -> list[Asked]:
    """Poisson arrivals with log-normal lengths of the trace's means, cut off at 2048 and 1024 tokens."""
    rng = np.random.default_rng(seed)
    count = int(rate * span_s)
    at = np.cumsum(rng.exponential(1 / rate, count))
    prompt, output = (
        np.clip(rng.lognormal(np.log(mean) - s * s / 2, s, count), 1, top)
        for mean, s, top in ((PROMPT, 0.9, 2048), (OUTPUT, 0.7, 1024))
    )
    return [Asked(float(t), int(p), int(o)) for t, p, o in zip(at, prompt, output, strict=True)]


def simulated(case: Case, holders: Sequence[Holder], asked: Sequence[Asked]) -> Played:
    """The requests played through a placement by the weights of its flow."""
    flow: Flow = max_flow(holders, case.layers, case.links)
    turns = Turns(chains_of({h.name: (h.first, h.end) for h in holders}, flow.through))
    paces = {h.name: pace(h.name.rsplit("-", 1)[0]) for h in holders}
    return play(asked, paces, turns.next, lambda a, b: case.latency_s)


def pace(kind: str) -> Pace:
    ten, many, prompt = CURVES[kind]
    slope = (many - ten) / 290
    return Pace((ten - 10 * slope) / 1e3, slope / 1e3, prompt / 1e6)
