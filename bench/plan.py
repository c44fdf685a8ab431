"""How long serve planning takes and how near it comes to its bound.

    python bench/plan.py [--json] [--gpus N] [--case FILE.hex]...

Without --case: made-up clusters of 4 to 256 GPUs of one to eight kinds under a 70B model, and the shipped specs where
they are found.  Seconds are those of each pass on this machine; budgets are 5 s at 32 GPUs and 60 s at 256.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hexdsl.api import load, load_text
from hexdsl.ir.diagnostic import SpecError
from hexdsl.ir.plan import Plan
from hexdsl.lang.resolve import Loaded
from hexdsl.passes.base import Pass
from hexdsl.pipeline import plan_spec

KINDS = ("A6000", "H100", "A100", "L40S", "RTX_4090", "A40", "L4", "H200")

GOALS = {
    "most": "maximize throughput",
    "cheap": "p95(tpot) <= 100ms\n  minimize cost",
}


@dataclass(frozen=True)
class Row:
    """One planned case; `bound` and `gap` are those of the certificate."""

    case: str
    gpus: int
    seconds: dict[str, float]
    replicas: int
    devices: int
    goal: str
    objective: float
    bound: float
    gap: float
    exact: bool

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def made_up(gpus: int, kinds: int, goal: str) -> str:
    """A cluster of so many GPUs in machines of 8 (or 4 or 2) of so many kinds, all linked."""
    size = 8 if gpus >= 16 * kinds else 4 if gpus >= 8 * kinds else 2
    counts = [gpus // size // kinds + (k < gpus // size % kinds) for k in range(kinds)]
    nodes = [
        f"  nodes n{k} {{ count = {c}, gpus = {size} * {KINDS[k]}, nic = 100Gb/s }}" for k, c in enumerate(counts) if c
    ]
    pairs = [(a, b) for a in range(len(nodes)) for b in range(a)]
    links = [f"  n{a} <-> n{b} {{ bandwidth = {100 // (1 + a)}Gb/s, latency = {20 * (1 + a)}us }}" for a, b in pairs]
    cluster = "\n".join(("cluster cloud {", *nodes, *links, "}"))
    load = (
        "workload chat { arrivals = poisson(%greq/s), prompt = lognormal(median = 900, p95 = 4000), output = 220tok }"
    )
    serve = f"serve assistant {{\n  model = m, on = cloud, workload = chat\n  {GOALS[goal]}\n}}"
    imports = 'import "std/gpus.hex"\nimport "std/models.hex"\nmodel m : llama70b { weights = int4(group = 128) }'
    return "\n".join((imports, cluster, load % (gpus / 20), serve))


def cases(files: list[Path], gpus: int | None) -> Iterator[tuple[str, Loaded]]:
    if files:
        yield from ((path.stem, load(path)) for path in files)
        return
    sizes = [gpus] if gpus else [4, 8, 32, 64, 256]
    for size in sizes:
        for kinds in (k for k in (1, 3, 8) if size >= 4 * k):
            for goal in GOALS:
                yield f"{size} GPUs, {kinds} kinds, {goal}", load_text(made_up(size, kinds, goal), "made_up.hex")
    shipped = Path(__file__).parents[1] / "specs" / "serve"
    yield from ((path.stem, load(path)) for path in sorted(shipped.glob("*.hex")) if gpus is None)


def planned(name: str, loaded: Loaded) -> Row | str:
    """The row of a case, or why it has none: the seconds of each pass, over all the searches that the plan took."""
    seconds: dict[str, float] = {}

    def after(step: Pass, plan: Plan, spent: float) -> None:
        seconds[step.name] = round(seconds.get(step.name, 0.0) + spent, 3)

    try:
        plan = plan_spec(loaded.spec, None, after)
    except SpecError as error:
        return f"{name}: {error}"
    found = plan.certificates[0]
    return Row(
        case=name,
        gpus=sum(len(m.devices) for m in plan.machines),
        seconds=seconds,
        replicas=len(plan.replicas),
        devices=sum(len(r.devices) for r in plan.replicas),
        goal=found.goal,
        objective=found.objective,
        bound=found.bound,
        gap=found.gap,
        exact=found.exact,
    )


def show(row: Row | str) -> None:
    if isinstance(row, str):
        print(row)
        return
    slow = ", ".join(f"{n} {s:.2f}" for n, s in row.seconds.items() if s >= 0.02)
    proof = "exact" if row.exact else f"gap {row.gap:5.1%}"
    print(
        f"{row.case:26} {row.gpus:5} {row.total:7.2f} s  {row.replicas:3} on {row.devices:<4} "
        f"{row.objective:11.5g} {row.bound:11.5g} {proof:10}  {row.goal} ({slow})",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="time and quality of serve plans")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--gpus", type=int, help="only made-up clusters of so many GPUs")
    parser.add_argument("--case", action="append", type=Path, default=[], help="a spec to plan; may be repeated")
    args = parser.parse_args()
    rows = []
    for name, loaded in cases(args.case, args.gpus):
        rows.append(planned(name, loaded))
        if not args.json:
            show(rows[-1])
    if args.json:
        json.dump([asdict(r) if isinstance(r, Row) else {"refused": r} for r in rows], sys.stdout, indent=2)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
