"""Parallax's first phase: its public cases, times, and random inventories.  Judge: k^2 / stages, pipelines checked."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from _serving_plans import IMPORTS, nodes
from _serving_rows import Row, bar, timed

from hexdsl.api import load_text
from hexdsl.costs.serving import Load
from hexdsl.passes.pool.arcs import Room
from hexdsl.passes.pool.pipelines import Peer, Pipes, plan_pipes, room_of
from hexdsl.passes.pool.rates import Service, class_of, column_of, plan_rates
from hexdsl.passes.serve.adapter import arch_of, gpu_of
from hexdsl.pipeline import choose

GIB = 2**30
GPUS = {"A100-80": (80, 312.0), "A100-40": (40, 312.0), "5090": (32, 104.8), "4090": (24, 82.6)}
"""GiB, and fp16 TFLOP/s, as in GradientHQ/parallax, src/parallax/server/server_info.py."""

HIDDEN, VOCAB = 2880, 201_088
LAYER = 2 * HIDDEN * 4096 + HIDDEN * 1024 + 3 * HIDDEN * HIDDEN * 128
TABLE = HIDDEN * VOCAB
SHARE = 0.5
"""The model of Parallax's scheduler tests ("GPUOss", one byte a parameter) and their share of memory for parameters."""

GOLDEN = (
    (36, (6, 0, 0, 0), 2, 6, "both"),
    (22, (2, 2, 0, 2), 1, 2, "greedy"),
    (22, (2, 2, 0, 2), 2, 6, "dp"),
    (14, (1, 0, 2, 2), 1, 2, "greedy"),
    (7, (0, 1, 2, 2), 2, 4, "greedy"),
)
"""Layers, nodes of the four kinds, and the pipelines, stages and strategy that tests/scheduler_tests there expect."""

DP_SECONDS = {16: "0.04", 24: "1.6", 32: "71.6", 64: "> 120"}
"""What Parallax's DP allocator took on a 2-core machine (GradientHQ/parallax @162354a)."""

LLAMA70 = (855.6e6 * 2, 128_256 * 8192 * 2)


def peers_of(counts: Mapping[str, int], layer: float, table: float, share: float = SHARE) -> list[Peer]:
    """Nodes of the named kinds; embedding and head weigh the same."""
    found = []
    for kind, count in counts.items():
        memory, speed = GPUS[kind]
        room = room_of(memory * GIB * share, layer, table, table)
        found += [Peer(f"{kind}-{i}", room, speed) for i in range(count)]
    return found


def rows() -> Iterator[Row]:
    yield from _golden()
    yield from _times()
    yield from _setting()
    yield from _random(400)


def _golden() -> Iterator[Row]:
    for layers, counts, k, stages, strategy in GOLDEN:
        peers = peers_of(dict(zip(GPUS, counts, strict=True)), LAYER, TABLE)
        yield _scored(f"{layers} layers, {counts}", peers, layers, k * k / stages, f"Parallax ({strategy})")


def case_rows(data: Mapping[str, Any]) -> Iterator[Row]:
    """Cases as `{"parallax": [{"layers", "nodes": {kind: count}, "layer_bytes", "table_bytes", "score"}]}`."""
    for case in data["parallax"]:
        layer, table = case.get("layer_bytes", LAYER), case.get("table_bytes", TABLE)
        peers = peers_of(case["nodes"], layer, table, case.get("share", SHARE))
        name = f"{case['layers']} layers, {case['nodes']}"
        yield _scored(name, peers, case["layers"], float(case.get("score", 0)), "in the case")


def _scored(name: str, peers: Sequence[Peer], layers: int, theirs: float, whose: str) -> Row:
    pipes, spent = timed(lambda: plan_pipes(peers, layers))
    ok = sound(pipes, peers) and pipes.score >= theirs - 1e-12
    what = f"k^2/stages ({len(pipes.pipes)} pipelines, {pipes.stages} stages, bound {pipes.bound:.4g})"
    return Row("b", name, what, pipes.score, theirs, whose, "layers counted", spent, bar(ok))


def sound(pipes: Pipes, peers: Sequence[Peer]) -> bool:
    """Whether every pipeline holds every layer once, within room, and no peer is used twice."""
    names = [h.peer.name for pipe in pipes.pipes for h in pipe]
    if len(set(names)) < len(names) or not set(names) <= {p.name for p in peers}:
        return False
    for pipe in pipes.pipes:
        edges, last = [0, *(h.end for h in pipe)], len(pipe) - 1
        rooms = [h.peer.room.at(i == 0, i == last) for i, h in enumerate(pipe)]
        fits = all(1 <= h.end - h.first <= r for h, r in zip(pipe, rooms, strict=True))
        if not fits or edges[:-1] != [h.first for h in pipe] or edges[-1] != pipes.layers:
            return False
    return True


def _times() -> Iterator[Row]:
    for size in (16, 24, 32, 64, 128, 256, 1024):
        counts = dict(zip(GPUS, (size // 8, size // 8, size // 4, size // 2), strict=True))
        peers = peers_of(counts, *LLAMA70)
        pipes, spent = timed(lambda p=peers: plan_pipes(p, 80))  # type: ignore[misc]
        met = bar(sound(pipes, peers) and spent.cpu_s <= 2.0) if size == 256 else ""
        what = f"cpu s; k^2/stages {pipes.score:.4g}, bound {pipes.bound:.4g}"
        other = DP_SECONDS.get(size, "")
        yield Row(
            "b", f"Llama-70B, {size} mixed nodes", what, spent.cpu_s, other, "Parallax DP", "this machine", spent, met
        )


BATCH, LANES, RTT_S, PROMPT, OUTPUT = 4, 8, 0.010, 300.0, 300.0
"""A micro-batch, most micro-batches, and the published mean round trip; lengths are near those of ShareGPT."""


def _setting() -> Iterator[Row]:
    """Parallax's published setting, five RTX 5090 and two 4090 over 10 ms: the best rate beside the best k^2 / s."""
    parts = nodes("a", 5, 1, "RTX_5090") + nodes("b", 2, 1, "RTX_4090")
    text = f"{IMPORTS}cluster c {{\n{parts}}}\nserve s {{ model = qwen3_32b, on = c }}\n"
    serve = choose(load_text(text, "setting.hex").spec, None)
    arch, load = arch_of(serve.model), Load(PROMPT, OUTPUT)  # type: ignore[attr-defined]
    kinds = [(n.name, n.count, gpu_of(n.gpus.gpu)) for n in serve.on.nodes]  # type: ignore[union-attr]
    classes = [class_of(name, count, gpu, arch, load, BATCH, LANES) for name, count, gpu in kinds]
    service = Service(arch.layers, BATCH, LANES, delay={("", ""): RTT_S / 2})
    peers = [Peer(f"{i}/{k}", c.room, 1 / c.layer_s) for i, c in enumerate(classes) for k in range(c.count)]
    pipes = plan_pipes(peers, arch.layers)
    sets = [[int(h.peer.name.split("/")[0]) for h in pipe] for pipe in pipes.pipes]
    theirs = sum(c.tokens_s for s in sets if (c := column_of(classes, s, service)) is not None)
    case = "5 x 5090 + 2 x 4090, Qwen3-32B bf16, RTT 10 ms"
    for limit in (math.inf, 0.07):
        bounded = replace(service, limit_s=limit)
        served, spent = timed(lambda s=bounded: plan_rates(classes, s, len(peers)))  # type: ignore[misc]
        how = ", ".join(f"{len(c.classes)} stages {1e3 * c.token_s:.0f} ms" for c in served.columns)
        what = f"tok/s, at most {1e3 * limit:.0f} ms a token ({how}; bound {served.bound:.5g})"
        met = "" if math.isfinite(limit) else bar(served.tokens_s >= theirs - 1e-9)
        yield Row("b", case, what, served.tokens_s, theirs, "best k^2/s, no limit", "hexc's cost model", spent, met)


def _random(count: int) -> Iterator[Row]:
    """Inventories of one to eight kinds of any room; a plan exists where a choice of ends leaves room for the model."""
    rng = random.Random(7)
    cases = [_inventory(rng) for _ in range(count)]
    found, spent = timed(lambda: Counter(_verdict(*case) for case in cases))
    what = f"crashed | unsound | missed of {count} ({found['planned']} planned)"
    bad = [found[k] for k in ("crashed", "unsound", "missed")]
    text, judge = " | ".join(map(str, bad)), "existence by counting"
    yield Row("c", "random inventories", what, text, "32 failed", "Parallax DP", judge, spent, bar(not any(bad)))


def _verdict(peers: Sequence[Peer], layers: int) -> str:
    try:
        pipes = plan_pipes(peers, layers)
    except Exception:  # a crash is what is counted
        return "crashed"
    if not sound(pipes, peers):
        return "unsound"
    return "planned" if pipes.pipes else "missed" if exists(peers, layers) else "impossible"


def _inventory(rng: random.Random) -> tuple[list[Peer], int]:
    layers = rng.choice((16, 24, 28, 32, 36, 40, 48, 64, 80, 126))
    layer = rng.uniform(0.1e9, 4e9)
    table = layer * rng.uniform(0.05, 3.0)
    sizes = [rng.choice((8, 12, 16, 24, 32, 40, 48, 80, 96, 141)) for _ in range(rng.randint(1, 8))]
    rooms = [room_of(size * GIB * rng.uniform(0.4, 0.9), layer, table, table) for size in sizes]
    count = rng.randint(1, 64)
    return [Peer(f"p{i}", rng.choice(rooms), rng.uniform(10, 400)) for i in range(count)], layers


def exists(peers: Sequence[Peer], layers: int) -> bool:
    """Whether one pipeline exists: one node alone, or all nodes with the ends where they displace the least."""
    rooms = [p.room for p in peers if p.room.middle]
    if any(r.both >= layers for r in rooms):
        return True
    top = sorted(rooms, key=lambda r: -r.middle)[:layers]
    return any(_with_ends(top, a, b) >= layers for a in range(len(top)) for b in range(len(top)) if a != b)


def _with_ends(rooms: Sequence[Room], a: int, b: int) -> int:
    if not rooms[a].first or not rooms[b].last:
        return 0
    total = sum(r.middle for r in rooms)
    return total - rooms[a].middle + rooms[a].first - rooms[b].middle + rooms[b].last
