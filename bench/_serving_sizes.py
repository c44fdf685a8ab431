"""How planning grows, and small cases against enumeration.

Judges: the certificate of hexc's serve planner for made-up mixed clusters; for small pools a search over every row of
stages, and over every deal of peers to pipelines.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from _serving_plans import Outcome, planned
from _serving_rows import Row, bar, timed
from plan import made_up

from hexdsl.passes.pool.kinds import Kind
from hexdsl.passes.pool.mesh import improve
from hexdsl.passes.pool.patterns import TOLERANCE, plan_line
from hexdsl.passes.pool.pipelines import plan_pipes

sys.path.append(str(Path(__file__).parents[1] / "tests" / "pool"))
import pool_cases

SIZES = {32: (5.0, 0.05), 64: (10.0, None), 320: (60.0, None), 1024: (None, None)}
"""GPUs to the bars on seconds and gap."""

PUBLISHED = {64: "4.03 min", 320: "47.77 min"}
"""HexGen-2's scheduler (arXiv 2502.07903, Table 5)."""


def rows() -> Iterator[Row]:
    yield _small_lines(12)
    yield _small_pipes(60)
    yield _small_meshes(4)
    for gpus, bars in SIZES.items():
        yield _sized(gpus, planned(made_up(gpus, 4 if gpus < 64 else 8, "most")), *bars)


def _sized(gpus: int, outcome: Outcome, most_s: float | None, most_gap: float | None) -> Row:
    case, whose, other = f"{gpus} mixed GPUs, Llama-70B", "HexGen-2's scheduler", PUBLISHED.get(gpus, "")
    if outcome.plan is None:
        return Row("e", case, "throughput", outcome.why, other, whose, "", outcome.spent, "no")
    used, proof = outcome.spent.cpu_s, outcome.plan.certificates[0]
    met = (most_s is None or used <= most_s) and (most_gap is None or proof.gap <= most_gap)
    what = f"tok/s {proof.objective:.5g}, bound {proof.bound:.5g}, gap {proof.gap:.1%}; cpu s"
    return Row("e", case, what, used, other, whose, "certificate", outcome.spent, bar(met))


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
    return Row("e", case, what, f"{same} of {count}", "", "", "enumeration", spent, bar(same == count))
