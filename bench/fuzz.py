"""Specs gone wrong, by the thousand: what hexc makes of them; a traceback is a failure (exit code 1).

    python bench/fuzz.py [--count N] [--seed N] [--case FILE.hex] [--json]

The inputs are those of tests/fuzz, from another stream of random numbers; the same seed gives the same inputs.
With --case only that file is mutated.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from _show import ROOT, show

sys.path.insert(0, str(ROOT / "tests" / "fuzz"))

from fuzz_specs import Seed, judge, mutated, nudged, seeds, small_seeds, soup


def inputs(count: int, first: int, case: Path | None) -> Iterator[tuple[int, Seed, str]]:
    """Numbered inputs: a fifth is soup, three fifths are mutated, and a fifth has other figures."""
    every, small = seeds(), small_seeds()
    if case:
        every = small = (Seed(case.resolve(), case.read_text(encoding="utf-8")),)
    for number in range(first, first + count):
        random = Random(number)
        kind = number % 5
        seed = random.choice(small if kind == 1 else every)
        yield number, seed, soup(random) if kind == 0 else (nudged if kind == 1 else mutated)(random, seed.text)


def main() -> int:
    parser = argparse.ArgumentParser(description="what hexc makes of broken specs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--count", type=int, default=20_000, help="how many inputs (20,000)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first input (0)")
    parser.add_argument("--case", type=Path, help="mutate this spec instead of the project's")
    args = parser.parse_args()
    found: Counter[str] = Counter()
    slowest = (0.0, 0)
    for number, seed, text in inputs(args.count, args.seed, args.case):
        begun = time.perf_counter()
        try:
            found[judge(seed, text)] += 1
        except Exception:
            found["traceback"] += 1
            print(f"input {number}, from {seed.path.name}:\n{traceback.format_exc()}", file=sys.stderr)
        slowest = max(slowest, (round(time.perf_counter() - begun, 2), number))
    order = ("traceback", "planned", "checked")
    rows = [{"outcome": name, "inputs": found[name]} for name in order]
    rows += [{"outcome": f"rejected, {code}", "inputs": n} for code, n in sorted(found.items()) if code not in order]
    show(args.json, ("outcome", "inputs"), rows, slowest=f"{slowest[0]} s (input {slowest[1]})")
    return int(found["traceback"] > 0)


if __name__ == "__main__":
    sys.exit(main())
