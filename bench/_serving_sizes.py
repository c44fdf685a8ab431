"""How planning grows on random mixed inventories, and small cases against enumeration.

Judges: the certificate of hexc's serve planner for made-up clusters, drawn with a seed; for small ones the enumeration
of every plan that the tests use (tests/passes/serve_brute.py); for small pools a search over every row of stages, over
every placement, and over every deal of peers to pipelines.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from _serving_plans import IMPORTS, PHASES, planned
from _serving_rows import Job, Row, bar, listed, timed

from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.pool.kinds import Kind
from hexdsl.passes.pool.mesh import improve
from hexdsl.passes.pool.patterns import TOLERANCE, plan_line
from hexdsl.passes.pool.pipelines import plan_pipes

for room in ("pool", "passes"):
    sys.path.append(str(Path(__file__).parents[1] / "tests" / room))
import pool_cases  # noqa: E402
from serve_brute import Brute  # noqa: E402
from serve_cases import small_case  # noqa: E402

SIZES = {32: (5.0, 0.05, 6), 64: (10.0, None, 3), 320: (60.0, None, 2), 1024: (None, None, 1)}
"""GPUs to the bars on seconds and gap, and how many inventories are drawn."""

PHASED = {32: 3, 64: 1}
"""Of so many inventories the spec names the phases as well: that makes about three times as many candidates."""

PUBLISHED = {64: 4.03 * 60, 320: 47.77 * 60}
"""Seconds of HexGen-2's scheduler (arXiv 2502.07903, Table 5)."""

SMALL = {5: 24, 8: 4}
"""Most GPUs of the small cases, and how many are drawn."""

GPUS = ("H100", "A100", "A100_40G", "L40", "L40S", "A6000", "A40", "L4", "A10G", "RTX_4090", "RTX_3090", "H200")
MODELS = {
    "70B": "model m : llama70b { weights = int4(group = 128) }",
    "32B": "model m : qwen32b { weights = bf16 }",
    "8B": "model m : llama8b { weights = bf16 }",
}
GOALS = ("maximize throughput", "maximize throughput", "p95(tpot) <= 150ms\n  maximize goodput")


def jobs() -> Iterator[Job]:
    yield partial(listed, _pools)
    yield from (partial(listed, _brute, gpus, count) for gpus, count in SMALL.items())
    for gpus, (_, _, count) in SIZES.items():
        yield from (partial(listed, _sized, gpus, seed) for seed in range(count))


def drawn(gpus: int, seed: int, phased: bool = False) -> tuple[str, str]:
    """A cluster of so many GPUs: two to eight kinds, machines of 1 to 8, links of 5 to 400 Gb/s.  Name and spec."""
    rng = random.Random(f"{gpus}/{seed}")
    kinds = rng.sample(GPUS, rng.randint(2, 8))
    parts, left, i = list[str](), gpus, 0
    while left:
        size = min(left, rng.choice((1, 2, 4, 4, 8, 8)))
        count = min(left // size, rng.randint(1, max(1, gpus // (4 * size))))
        nic = rng.choice((25, 100, 200, 400))
        parts.append(f"  nodes n{i} {{ count = {count}, gpus = {size} * {rng.choice(kinds)}, nic = {nic}Gb/s }}")
        left, i = left - count * size, i + 1
    speeds = [
        (a, b, rng.choice((5, 10, 25, 100, 400)), rng.choice((0.02, 0.2, 1, 20))) for a in range(i) for b in range(a)
    ]
    links = [f"  n{a} <-> n{b} {{ bandwidth = {speed}Gb/s, latency = {ms}ms }}" for a, b, speed, ms in speeds]
    model, goal = rng.choice(list(MODELS)), rng.choice(GOALS)
    load = f"arrivals = poisson({gpus / 10:g}req/s), prompt = lognormal(median = 900, p95 = 4000), output = 220tok"
    text = "\n".join(
        (
            f"{IMPORTS}{MODELS[model]}\ncluster cloud {{", *parts, *links, "}", f"workload chat {{ {load} }}",
            f"serve assistant {{\n  model = m, on = cloud, workload = chat\n{PHASES if phased else ''}  {goal}\n}}",
        )
    )  # fmt: skip
    return f"{gpus} GPUs in {i} groups of {len(kinds)} kinds, {model}, seed {seed}", text


def _sized(gpus: int, seed: int) -> Iterator[Row]:
    most_s, most_gap, _ = SIZES[gpus]
    for phased in (False, True)[: 1 + (seed < PHASED.get(gpus, 0))]:
        case, text = drawn(gpus, seed, phased)
        outcome = planned(text)
        what = "phases named, " if phased else ""
        if outcome.plan is None:
            yield Row("f", case, f"{what}{outcome.why}", 0.0, "", "", "", outcome.spent, bar(outcome.why[:4] == "P001"))
            continue
        proof, used = outcome.plan.certificates[0], outcome.spent.cpu_s
        met = (most_s is None or used <= most_s) and (most_gap is None or proof.gap <= most_gap)
        goal = f"{what}{proof.goal} ({proof.unit}); at most {most_s or 'any'} s" + (
            f", gap {most_gap:.0%}" if most_gap else ""
        )
        yield Row("f", case, goal, proof.objective, "", "", "certificate", outcome.spent, bar(met), bound=proof.bound)
        if gpus in PUBLISHED:
            whose = "HexGen-2's scheduler"
            yield Row(
                "f",
                case,
                f"{what}cpu seconds",
                used,
                PUBLISHED[gpus],
                whose,
                "this machine | theirs",
                None,
                bar(used < PUBLISHED[gpus]),
            )


def _brute(gpus: int, count: int) -> Iterator[Row]:
    """The optimum of every plan; where a rule on latencies makes splits matter, it lies between plan and bound."""
    for goal in ("throughput", "goodput", "cost"):
        verdicts, spent = timed(lambda g=goal: [_verdict(seed, g, gpus) for seed in range(count)])  # type: ignore[misc]
        same, apart = verdicts.count("same"), verdicts.count("within bound")
        what = f"{goal}: equal to brute force ({apart} more between plan and bound)"
        met = bar(same + apart == count)
        yield Row("f", f"random, at most {gpus} GPUs", what, f"{same} of {count}", "", "", "enumeration", spent, met)


def _verdict(seed: int, goal: str, gpus: int) -> str:
    case = small_case(seed, goal, gpus)
    serve = case.load().spec.workflows[0]
    assert isinstance(serve, Serve)
    brute, larger = Brute(serve), goal != "cost"
    best = {"throughput": brute.most_throughput, "goodput": brute.most_rate, "cost": brute.least_cost}[goal]()
    try:
        proof = case.plan().certificates[0]
    except NoPlanError:
        return "same" if best is None else "missed"
    if best is None:
        return "impossible plan"
    best *= float(brute.load.output) if goal == "throughput" else 1.0  # type: ignore[arg-type]
    if abs(proof.objective - best) <= 1e-6 * best:
        return "same"
    low, high = sorted((proof.objective, proof.bound)) if larger else sorted((proof.bound, proof.objective))
    return "within bound" if low * (1 - 1e-6) <= best <= high * (1 + 1e-6) else "wrong"


def _pools() -> Iterator[Row]:
    yield _small_lines(12)
    yield _small_pipes(60)
    yield _small_meshes(4)


def _small_lines(count: int) -> Row:
    """Pools of at most six nodes: the best pipeline against every row of stages."""
    rng = random.Random(11)

    def agrees(i: int) -> bool:
        make = pool_cases.bumpy if i % 3 == 0 else pool_cases.falling
        kinds: list[Kind] = [make(rng, f"k{t}", rng.randint(1, 3), rng.randint(1, 4)) for t in range(2)]
        layers = rng.randint(3, 8)
        line, best = plan_line(kinds, layers), pool_cases.best_line_flow(kinds, layers)
        return (line.flow if line else 0.0) >= best * (1 - 2 * TOLERANCE)

    return _agreeing("small pools, stages x patterns", "max flow", count, agrees)


def _small_pipes(count: int) -> Row:
    """Pools of at most six peers: the best pipelines against every deal of peers."""
    rng = random.Random(12)

    def agrees(_: int) -> bool:
        peers, layers = pool_cases.random_peers(rng, rng.randint(1, 6), 7), rng.randint(1, 9)
        best = max((k * k / s for k, s in pool_cases.fewest_stages(peers, layers).items()), default=0.0)
        return abs(plan_pipes(peers, layers).score - best) < 1e-9

    return _agreeing("small pools, pipelines", "k^2/stages", count, agrees)


def _small_meshes(count: int) -> Row:
    """Pools of three nodes: the best placement of any kind against the maximum flow over all of them."""
    rng = random.Random(13)

    def agrees(_: int) -> bool:
        kinds = [pool_cases.falling(rng, "a", 2, 3), pool_cases.falling(rng, "b", 1, 4)]
        line = plan_line(kinds, 4)
        found = improve(kinds, 4, line).flow if line else 0.0
        return abs(found - pool_cases.best_placement_flow(kinds, 4)) <= 1e-3 * found

    return _agreeing("small pools, any placement", "max flow", count, agrees)


def _agreeing(case: str, figure: str, count: int, agrees: Callable[[int], bool]) -> Row:
    same, spent = timed(lambda: sum(map(agrees, range(count))))
    what = f"{figure} equal to enumeration"
    return Row("f", case, what, f"{same} of {count}", "", "", "enumeration", spent, bar(same == count))
