"""Walls that import-linter does not see: what starting may import, and who may print."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("pyomo", "highspy", "numpy", "scipy", "torch", "networkx", "rich", "jinja2", "transformers", "lark.tools")
SILENT = ("hexdsl/ir", "hexdsl/lang", "hexdsl/costs", "hexdsl/sim", "hexdsl/solve", "hexdsl/report",
          "hexdsl/commands", "grammar", "passes", "targets")  # fmt: skip
STREAMS = {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}


@pytest.mark.parametrize("argv", [("fmt", "--check", "-"), ("schema", "serve"), ("completion", "bash"), ("--help",)])
def test_what_needs_no_plan_starts_light(argv: tuple[str, ...]) -> None:
    program = "import sys\nfrom hexdsl.cli import main\n"
    program += f"try: main({list(argv)!r})\nexcept SystemExit: pass\n"
    program += f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.__stderr__)"
    done = subprocess.run([sys.executable, "-c", program], input="", capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def talkers(path: Path) -> Iterator[str]:
    """Every `print` and every stream of a module; to flush one says nothing."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    flushed = {id(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "flush"}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id == "print":
            yield f"{path.relative_to(ROOT)}:{node.lineno} print"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in STREAMS and id(node) not in flushed:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"


def test_only_the_command_line_prints() -> None:
    assert [t for room in SILENT for path in sorted((ROOT / room).rglob("*.py")) for t in talkers(path)] == []


def test_the_wall_sees_who_prints() -> None:
    assert len(list(talkers(ROOT / "hexdsl" / "cli.py"))) > 4


def test_rooms_are_named_by_their_whole_name() -> None:
    """`import passes` would find another package elsewhere."""
    bare = {"grammar", "passes", "targets", "kernels"}
    for room in ("hexdsl", *bare):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not bare & {n.split(".")[0] for n in names}, path
