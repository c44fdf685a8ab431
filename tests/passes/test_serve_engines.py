"""The target's engine restricts the search: what it cannot run is not planned."""

from __future__ import annotations

import pytest
from serve_cases import planned

from hexdsl.api import load_text
from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Plan

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster lab {
  nodes a { gpus = 2 * RTX_4090, interconnect = 32GB/s }
  nodes b { gpus = 1 * L4 }
  a <-> b { bandwidth = 100Gb/s, latency = 20us }
}
model m : llama8b { weights = bf16, context = 4096tok }
serve s {
  model = m
  on = lab
  TARGET
  RULE
  maximize throughput
}
"""


def plan_of(target: str, rule: str = "") -> Plan:
    return planned(load_text(SPEC.replace("TARGET", target).replace("RULE", rule)).spec)


def test_stages_of_unlike_degree_are_for_engines_that_run_them() -> None:
    unlike = plan_of("", "devices == 3\n  replicas == 1\n  pp == 2")
    assert sorted(s.tp for s in unlike.replicas[0].stages) == [1, 2]
    with pytest.raises(NoPlanError):
        plan_of("target vllm {}", "devices == 3\n  replicas == 1\n  pp == 2")


def test_a_restricted_search_still_finds_the_best_that_runs() -> None:
    free, bound = plan_of(""), plan_of("target vllm {}")
    assert bound.certificates[0].objective <= free.certificates[0].objective * (1 + 1e-9)
    assert all(len({s.tp for s in r.stages}) == 1 for r in bound.replicas)


def test_a_price_of_zero_is_a_price() -> None:
    """Objectives and tie-breaks that hang on nothing are met by every plan."""
    text = SPEC.replace("RTX_4090, interconnect", "RTX_4090, price = $0/gpu/h, interconnect").replace("TARGET", "")
    text = text.replace("gpus = 1 * L4", "gpus = 1 * L4, price = $0/gpu/h").replace("RULE", "cost <= $1/h")
    plan = planned(load_text(text.replace("maximize throughput", "minimize cost")).spec)
    assert plan.cost_usd_per_h == 0
    assert plan.certificates[0].objective == 0
