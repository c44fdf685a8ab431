"""Graphs: DOT that a DOT reader accepts, and the tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hexdsl.ir.plan import Plan
from hexdsl.report.graph import graph_dot, graph_text, quoted

GOLDEN = Path(__file__).parent / "golden"
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@pytest.mark.parametrize("name", ["mixed", "quickstart"])
def test_the_graph_of_a_plan(name: str, request: pytest.FixtureRequest, golden: Callable[[Path, str], None]) -> None:
    plan = request.getfixturevalue(name)
    golden(GOLDEN / f"{name}.dot", graph_dot(plan))
    golden(GOLDEN / f"{name}-graph.txt", graph_text(plan))


def test_without_a_plan_there_is_only_the_cluster(mixed: Plan) -> None:
    assert "router" not in graph_dot(mixed.workflow)
    assert "big <-> middle: 200Gb/s, 20us" in graph_text(mixed.workflow)


def test_quotes_and_backslashes_stay_text(mixed: Plan) -> None:
    evil = 'a"]; b -> c [label="\\\n'
    assert STRING.fullmatch(quoted(evil))
    machines = (mixed.machines[0].with_(host=evil, group=evil), *mixed.machines[1:])
    bare = STRING.sub("S", graph_dot(mixed.with_(name=evil, machines=machines)))
    assert '"' not in bare
    assert "b -> c" not in bare
    assert bare.count("{") == bare.count("}")


def test_every_stage_is_a_node_and_every_hop_an_edge(mixed: Plan) -> None:
    text = graph_dot(mixed)
    assert len(re.findall(r'^ *"stage [^"]*" \[', text, re.MULTILINE)) == 4
    assert len(re.findall(r"^ *router -> ", text, re.MULTILINE)) == 3
    assert '"stage r1 0" -> "stage r1 1";' in text
