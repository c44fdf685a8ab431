"""`hexc check` starts quickly because it imports neither a solver nor numerics nor the packages of reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SPEC = Path(__file__).parents[2] / "specs" / "serve" / "mixed.hex"
HEAVY = {"highspy", "jinja2", "matplotlib", "networkx", "numpy", "pyomo", "rich", "scipy", "torch", "transformers"}
OURS = ("hexdsl.costs", "hexdsl.passes", "hexdsl.report", "hexdsl.runtime", "hexdsl.solve", "hexdsl.targets")

PROGRAM = """
import sys
from hexdsl.cli import main
code = main(sys.argv[1:])
print(*sys.modules, sep="\\n")
sys.exit(code)
"""


def imported(*argv: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *argv], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_check_imports_what_it_needs() -> None:
    modules = imported("check", str(SPEC))
    assert "hexdsl.lang.resolve" in modules
    assert modules & HEAVY == set()
    assert [m for m in modules if m.startswith(OURS)] == []
