"""How long a light re-plan takes when a machine is lost, and what it keeps.

    python bench/replan.py [--json] [--gpus N] [--case FILE.hex]...

The clusters are those of bench/plan.py with phases named; each is planned (not timed here), loses the machine that
serves most, and is re-planned.  Seconds are medians of five re-plans on this machine, without the simulation that
`hexc replan` adds and without its bound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from _show import machine
from plan import made_up

from hexdsl.api import load, load_text, plan
from hexdsl.ir.diagnostic import SpecError
from hexdsl.ir.plan import Plan
from hexdsl.lang.resolve import Loaded
from hexdsl.passes.inventory import machines_left
from hexdsl.passes.serve.replan import most_served, replan

RUNS = 5
PHASES = "phase prefill {}\n  phase decode {}\n  "


@dataclass(frozen=True)
class Row:
    """A cluster that lost a machine."""

    case: str
    gpus: int
    replicas: int
    lost: int
    changed: int
    served_before: float
    served_after: float
    bound: float | None
    seconds: float


def cases(files: list[Path], gpus: int | None) -> Iterator[tuple[str, Loaded]]:
    if files:
        yield from ((path.stem, load(path)) for path in files)
        return
    for size in [gpus] if gpus else [32, 64, 256]:
        for kinds in (1, 3, 8):
            text = made_up(size, kinds, "most").replace("maximize throughput", f"{PHASES}maximize goodput")
            yield f"{size} GPUs, {kinds} kinds", load_text(text, "made_up.hex")


def lost_one(before: Plan) -> Plan:
    """The plan without the machine that serves most, and without replicas."""
    served = Counter[str]()
    for replica in before.replicas:
        for name in {s.machine for s in replica.stages}:
            served[name] += replica.rate_req_per_s  # type: ignore[assignment]
    gone = max(sorted(served), key=served.__getitem__)
    now = before.with_(lost=(gone,), replicas=(), routes=(), handovers=(), certificates=(), decisions=())
    return now.with_(machines=machines_left(now))


def measured(name: str, loaded: Loaded) -> Row | str:
    try:
        before = plan(loaded)
        now, seconds = lost_one(before), list[float]()
        for _ in range(RUNS):
            begun = time.perf_counter()
            made = replan(before, now)
            seconds.append(time.perf_counter() - begun)
    except SpecError as error:
        return f"{name}: {error}"
    fates = Counter(m.fate for m in made.replicas)
    return Row(
        case=name,
        gpus=sum(len(m.devices) for m in before.machines),
        replicas=len(before.replicas),
        lost=fates["lost"],
        changed=fates["changes"],
        served_before=before.served_req_per_s,
        served_after=made.served_after_req_per_s,
        bound=most_served(now),
        seconds=statistics.median(seconds),
    )


def show(row: Row | str) -> None:
    if isinstance(row, str):
        print(row)
        return
    bound = "" if row.bound is None else f"  (no plan serves more than {row.bound:.4g})"
    print(
        f"{row.case:20} {row.replicas:4} replicas, {row.lost} lost, {row.changed} change phase  "
        f"{row.served_before:8.4g} -> {row.served_after:8.4g} req/s{bound}  {row.seconds:6.3f} s",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="time and quality of light re-plans")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--gpus", type=int, help="only made-up clusters of so many GPUs")
    parser.add_argument("--case", action="append", type=Path, default=[], help="a spec; may be repeated")
    args = parser.parse_args()
    rows = []
    if not args.json:
        print(machine())
    for name, loaded in cases(args.case, args.gpus):
        rows.append(measured(name, loaded))
        if not args.json:
            show(rows[-1])
    if args.json:
        found = [asdict(r) if isinstance(r, Row) else {"refused": r} for r in rows]
        json.dump({"machine": machine(), "rows": found}, sys.stdout, indent=2)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
