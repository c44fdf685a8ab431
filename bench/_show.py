"""What the benchmarks share: how they time, and how they print."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
HEXC = Path(sys.executable).with_name("hexc")
PATIENCE_S = 120


def machine() -> str:
    """The machine in a line: figures mean nothing without it."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    load = os.getloadavg()[0]
    return f"{cpu}, {os.cpu_count()} CPUs, load {load:.1f}, Python {platform.python_version()}, {platform.system()}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of texts; columns as wide as they must be, numbers to the right."""
    cells = [[str(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def show(as_json: bool, header: Sequence[str], rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Prints rows as a table with the machine below, or as JSON; `header` names the fields in their order."""
    if as_json:
        print(json.dumps({"machine": machine(), **more, "rows": list(rows)}, indent=1))
        return
    print(table(header, [[row[h] for h in header] for row in rows]))
    print("\n".join([f"{name}: {value}" for name, value in more.items()] + [machine()]))


@dataclass(frozen=True)
class Times:
    """Seconds that some runs of a command took, each as a process of its own."""

    name: str
    median_s: float
    worst_s: float
    runs: int

    def row(self) -> dict[str, Any]:
        return asdict(self)


def timed(name: str, runs: int, command: Sequence[str | Path], **env: str) -> Times:
    """Runs a command some times.  Raises RuntimeError with its own words where it fails."""
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=PATIENCE_S)
        seconds.append(time.perf_counter() - begun)
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.strip()}")
    return Times(name, round(median(seconds), 3), round(max(seconds), 3), runs)
