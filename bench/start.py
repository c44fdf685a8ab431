"""How long hexc takes from its start to its end: `check` of 200 lines, `compile` of the quickstart.

    python bench/start.py [--runs N] [--case FILE.hex] [--json]

Every run is a process of its own.  `cold` has an empty parser cache each time; --case is checked and compiled as well.
The verdict is about the seconds on the processor: a busy machine changes them little.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from _show import HEXC, ROOT, show, timed

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


@dataclass(frozen=True)
class Seconds:
    """Seconds of some runs of a command: on the clock, and on the processor, which other programs change little."""

    name: str
    clock: tuple[float, ...]
    cpu: tuple[float, ...]

    def row(self) -> dict[str, object]:
        budget = BUDGETS_S.get(self.name)
        verdict = "" if budget is None else "within" if median(self.cpu) <= budget else "over"
        return {
            "name": self.name,
            "median_s": round(median(self.clock), 3),
            "worst_s": round(max(self.clock), 3),
            "cpu_s": round(median(self.cpu), 3),
            "runs": len(self.clock),
            "budget_s": budget or "",
            "verdict": verdict,
        }


@dataclass(frozen=True)
class Bench:
    """A scratch folder in which commands are timed, with caches of its own; Python's bytecode is always cached."""

    scratch: Path
    runs: int

    def warm(self, name: str, *command: str | Path) -> Seconds:
        """Runs that find the parser in the cache."""
        return self._seconds(name, command, lambda run: "warm")

    def cold(self, name: str, *command: str | Path) -> Seconds:
        """Runs that each find an empty cache, as the first one after an installation does."""
        return self._seconds(name, command, lambda run: f"cold{run}")

    def _seconds(self, name: str, command: Sequence[str | Path], cache: Callable[[int], str]) -> Seconds:
        self._run(name, command, "warm")
        runs = [self._run(name, command, cache(run)) for run in range(self.runs)]
        return Seconds(name, tuple(clock for clock, _ in runs), tuple(cpu for _, cpu in runs))

    def _run(self, name: str, command: Sequence[str | Path], cache: str) -> tuple[float, float]:
        bytecode = {"PYTHONPYCACHEPREFIX": str(self.scratch / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
        before = _cpu()
        clock = timed(name, 1, [HEXC, *command], XDG_CACHE_HOME=str(self.scratch / cache), **bytecode).median_s
        return clock, _cpu() - before


def _cpu() -> float:
    """Processor seconds, of the user and the system, of all child processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measured(runs: int, case: Path | None) -> Iterator[Seconds]:
    with tempfile.TemporaryDirectory() as folder:
        bench, spec, out = Bench(Path(folder), runs), Path(folder) / "long.hex", Path(folder) / "bundle"
        spec.write_text(long_spec())
        yield bench.cold("check, 200 lines, cold", "check", spec)
        yield bench.warm("check, 200 lines, warm", "check", spec)
        yield bench.warm("compile, quickstart", "compile", QUICKSTART, "-o", out, "--force")
        if case:
            yield bench.warm(f"check, {case.name}", "check", case)
            yield bench.warm(f"compile, {case.name}", "compile", case, "-o", out, "--force")


def main() -> int:
    parser = argparse.ArgumentParser(description="seconds from the start of hexc to its end")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runs", type=int, default=9, help="runs of each command (9)")
    parser.add_argument("--case", type=Path, help="another spec to check and compile")
    args = parser.parse_args()
    rows = [seconds.row() for seconds in measured(args.runs, args.case)]
    show(args.json, ("name", "median_s", "worst_s", "cpu_s", "runs", "budget_s", "verdict"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
