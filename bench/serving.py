"""Serving plans beside those of Helix, Parallax, HexGen-2, ThunderServe and aiconfigurator: one table.

    python bench/serving.py [--json] [--only PART]... [--case PATH]...

Parts: a Helix's placement problem · b Parallax's inventories and times, and 400 random ones · c HexGen-2's settings ·
d ThunderServe's · e planning cases of aiconfigurator · f sizes and seeds, and small cases against enumeration · g bad
input.  A case is a JSON file in the form of helix24.json, aic_cases.json or hexgen2.json, or `{"parallax": [...]}`
(`_serving_pools.case_rows`).  Without --case the files under $HEXC_DATA are used.  Each row names who judged its
figures; `ratio` is hexc's figure over the other's; a bar that is not met is a `no`.  Parts run as processes of their
own, as many at a time as there are processors; rows go to stderr as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import _serving_bad as bad
import _serving_helix as helix
import _serving_hexgen2 as hexgen2
import _serving_papers as papers
import _serving_peers as peers
import _serving_pools as pools
import _serving_sizes as sizes
from _serving_rows import HEADER, Job, Row, listed
from _show import show
from accuracy import DATA

PARTS = "abcdefg"
FILES = {
    "a": DATA / "helix24" / "helix24.json",
    "c": DATA / "papers" / "hexgen2.json",
    "e": DATA / "peers_planning" / "aic_cases.json",
}


def jobs_of(path: Path) -> Iterator[Job]:
    """What makes the rows of a file, by what it holds.  Raises ValueError where its form is not known."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "inventory" in data:
        yield partial(listed, helix.rows, data)
    elif "cases" in data:
        yield from peers.jobs(data, path.with_name("aic_agg_pareto.csv"))
    elif "settings" in data:
        yield from papers.paper_jobs(data)
    elif "parallax" in data:
        yield partial(listed, pools.case_rows, data)
    else:
        raise ValueError(f"{path}: none of the known forms of case")


def jobs_in(parts: Iterable[str]) -> Iterator[Job]:
    made = {"d": papers.thunder_jobs, "f": sizes.jobs, "g": bad.jobs}
    for part in sorted(parts):
        if part == "b":
            yield partial(listed, pools.rows)
        elif part in made:
            yield from made[part]()
        elif FILES[part].exists():
            yield from jobs_of(FILES[part])
        else:
            print(f"skipped: nothing at {FILES[part]}", file=sys.stderr)


def found_by(jobs: Iterable[Job]) -> list[Row]:
    """The rows of all jobs in their order, and what they come to together."""
    found: list[Row] = []
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for future in [workers.submit(job) for job in jobs]:
            made = future.result()
            found += made
            for row in made:
                print("\t".join(map(str, row.plain().values())), file=sys.stderr, flush=True)
    return [*found, *hexgen2.summary(found), *papers.thunder_summary(found)]


def main() -> int:
    parser = argparse.ArgumentParser(description="serving plans beside other planners'")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part of the table; may be repeated")
    parser.add_argument("--case", action="append", type=Path, help="a JSON file; may be repeated")
    args = parser.parse_args()
    try:
        jobs = [j for p in args.case for j in jobs_of(p)] if args.case else list(jobs_in(args.only or PARTS))
        found = found_by(jobs)
    except (OSError, ValueError, KeyError) as error:
        print(f"not a case: {error!r}", file=sys.stderr)
        return 2
    bars = [row.met for row in found if row.met]
    show(args.json, HEADER, [row.plain() for row in found], bars_met=bars.count("yes"), bars_not_met=bars.count("no"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
