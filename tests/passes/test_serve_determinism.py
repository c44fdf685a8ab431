"""The same spec gives the same bytes, whatever the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SPECS = Path(__file__).parents[2] / "specs" / "serve"

PRINT = """
import json, sys
from serve_cases import planned
from hexdsl.api import load
print(json.dumps(planned(load(sys.argv[1]).spec).model_dump(mode="json")))
"""


def plan_bytes(spec: Path, seed: str) -> bytes:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, "-c", PRINT, str(spec)], env=env, check=True, capture_output=True).stdout


@pytest.mark.parametrize("name", ["two_kinds", "mixed"])
def test_hash_seeds_do_not_show(name: str) -> None:
    first, second = (plan_bytes(SPECS / f"{name}.hex", seed) for seed in ("1", "2"))
    assert first == second
    assert len(first) > 1000
