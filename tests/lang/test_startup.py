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


def test_check_loads_no_kind_that_the_spec_does_not_use_and_nothing_about_errors() -> None:
    ours = {m.removeprefix("hexdsl.") for m in imported("check", str(SPEC)) if m.startswith("hexdsl.")}
    assert "ir.spec.serve" in ours
    assert ours & {f"ir.spec.{kind}" for kind in ("agentic", "cascade", "pretrain", "rl")} == set()
    assert ours & {f"lang.{name}" for name in ("recover", "mistakes", "diagnostics", "format", "hf", "schema")} == set()


def test_check_loads_the_kind_that_the_spec_uses() -> None:
    assert "hexdsl.ir.spec.rl" in imported("check", str(SPEC.parents[1] / "rl" / "async_grpo.hex"))
