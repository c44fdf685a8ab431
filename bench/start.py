"""How long hexc takes from its start to its end: `check` of 200 lines, `compile` of the quickstart.

    python bench/start.py [--runs N] [--case FILE.hex] [--json]

Every run is a process of its own.  `cold` has an empty parser cache each time; --case is checked and compiled as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from _show import HEXC, ROOT, Times, show, timed

QUICKSTART = ROOT / "specs" / "serve" / "quickstart.hex"
LINES = 200
BUDGETS_S = {"check, 200 lines, warm": 0.3, "compile, quickstart": 5.0}


def long_spec() -> str:
    """A sound spec of 200 lines: machines, models, loads and endpoints in turn."""
    parts = [*(_machines(i) for i in range(6)), *(_endpoint(i) for i in range(7))]
    lines = ["\n".join(['import "std/gpus.hex"', 'import "std/models.hex"', *parts])]
    lines = "\n".join(lines).split("\n")
    return "\n".join(lines + ["# the rest is silence"] * (LINES - len(lines))) + "\n"


def _machines(i: int) -> str:
    return f"""
cluster lab{i} {{
  nodes big   {{ count = {i + 1}, gpus = 8 * H100, interconnect = 450GB/s, price = $3/gpu/h }}
  nodes small {{ count = 2, gpus = 4 * L40S, interconnect = 32GB/s }}
  big <-> small {{ bandwidth = 100Gb/s, latency = 10us }}
  within big    {{ bandwidth = 400Gb/s }}
}}"""


def _endpoint(i: int) -> str:
    return f"""
param rate{i}: Rate = {i + 1}req/s

workload load{i} {{
  arrivals = poisson(rate{i})
  prompt   = lognormal(median = {500 + i}, p95 = 4_000)
  output   = lognormal(median = 200, p95 = 900)
}}

serve answers{i} {{
  model    = llama8b
  on       = lab{i % 6}
  workload = load{i}
  context  = 8192tok
  p95(ttft) <= {400 + i}ms
  mean(tpot) <= 50ms
  minimize cost
}}"""


def measured(runs: int, case: Path | None) -> Iterator[Times]:
    with tempfile.TemporaryDirectory() as scratch:
        spec, out = Path(scratch) / "long.hex", Path(scratch) / "bundle"
        spec.write_text(long_spec())
        yield cold(runs, spec)
        yield timed("check, 200 lines, warm", runs, [HEXC, "check", spec])
        yield timed("compile, quickstart", runs, [HEXC, "compile", QUICKSTART, "-o", out, "--force"])
        if case:
            yield timed(f"check, {case.name}", runs, [HEXC, "check", case])
            yield timed(f"compile, {case.name}", runs, [HEXC, "compile", case, "-o", out, "--force"])


def cold(runs: int, spec: Path) -> Times:
    """Each run finds an empty cache folder."""
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            found.append(timed("check, 200 lines, cold", 1, [HEXC, "check", spec], XDG_CACHE_HOME=cache))
    ordered = sorted(t.median_s for t in found)
    return Times("check, 200 lines, cold", ordered[len(ordered) // 2], ordered[-1], runs)


def main() -> int:
    parser = argparse.ArgumentParser(description="seconds from the start of hexc to its end")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runs", type=int, default=9, help="runs of each command (9)")
    parser.add_argument("--case", type=Path, help="another spec to check and compile")
    args = parser.parse_args()
    rows = []
    for times in measured(args.runs, args.case):
        budget = BUDGETS_S.get(times.name)
        verdict = "" if budget is None else "within" if times.median_s <= budget else "over"
        rows.append({**times.row(), "budget_s": budget or "", "verdict": verdict})
    show(args.json, ("name", "median_s", "worst_s", "runs", "budget_s", "verdict"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
