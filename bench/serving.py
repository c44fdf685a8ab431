"""Serving plans beside those of Helix, Parallax, aiconfigurator, HexGen-2 and ThunderServe: one table.

    python bench/serving.py [--json] [--part a,b,...] [--case PATH]...

Parts: a Helix's placement problem · b Parallax's inventories and times, c random ones · d planning cases of another
planner · e sizes, and small cases against enumeration · f HexGen-2's settings and ThunderServe's link test.
A case is a JSON file in the form of helix24.json, aic_cases.json or hexgen2.json, or `{"parallax": [...]}`
(`_serving_pools.case_rows`).  Without --case the files under $HEXC_DATA are used.  Each row names who judged its
figures; a bar that is not met is a `no` in the last column.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _serving_helix as helix
import _serving_hexgen2 as hexgen2
import _serving_peers as peers
import _serving_pools as pools
import _serving_sizes as sizes
from _serving_rows import HEADER, Row
from _show import show
from accuracy import DATA

FILES = {
    "a": DATA / "helix24" / "helix24.json",
    "d": DATA / "peers_planning" / "aic_cases.json",
    "f": DATA / "papers" / "hexgen2.json",
}


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a file, by what it holds.  Raises ValueError where its form is not known."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "inventory" in data:
        yield from helix.rows(data)
    elif "cases" in data:
        yield from peers.rows(data, path.with_name("aic_agg_pareto.csv"))
    elif "settings" in data:
        yield from hexgen2.rows(data)
    elif "parallax" in data:
        yield from pools.case_rows(data)
    else:
        raise ValueError(f"{path}: none of the known forms of case")


def all_rows(parts: set[str]) -> Iterator[Row]:
    for part in sorted(parts):
        if part in FILES:
            if FILES[part].exists():
                yield from rows_of(FILES[part])
            else:
                print(f"skipped: nothing at {FILES[part]}", file=sys.stderr)
        elif part == "b":
            yield from pools.rows()
        elif part == "e":
            yield from sizes.rows()


def main() -> int:
    parser = argparse.ArgumentParser(description="serving plans beside other planners'")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--part", default="a,b,d,e,f", help="parts of the table, such as a,b (c comes with b)")
    parser.add_argument("--case", action="append", type=Path, help="a JSON file; may be repeated")
    args = parser.parse_args()
    try:
        found = [r for p in args.case for r in rows_of(p)] if args.case else list(all_rows(set(args.part.split(","))))
    except (OSError, ValueError, KeyError) as error:
        print(f"not a case: {error!r}", file=sys.stderr)
        return 2
    show(args.json, HEADER, [row.plain() for row in found], bars_not_met=sum(row.met == "no" for row in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
