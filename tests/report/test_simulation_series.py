"""What a plan keeps of a real simulation: capped, rounded, the same twice, and in agreement with what it stands for."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hexdsl
from hexdsl.api import load_text
from hexdsl.commands.simulate import teller
from hexdsl.ir.plan import Plan, Simulation
from hexdsl.passes.serve.series import LINES, SHARES, SLICES
from hexdsl.passes.serve.simulate import Size, simulated
from hexdsl.report.html import plan_html

SPEC = """
import "std/gpus.hex"
import "std/models.hex"
cluster box { nodes a { gpus = COUNT * L4 } }
workload chat { arrivals = poisson(4req/s), prompt = 200tok, output = 50tok }
serve s {
  model = llama1b
  on = box
  workload = chat
  replicas == COUNT
  p95(ttft) <= TTFT
  p95(latency) <= 60s
  maximize goodput
}
"""


def planned(count: int = 2, ttft: str = "30s") -> Plan:
    return hexdsl.plan(load_text(SPEC.replace("COUNT", str(count)).replace("TTFT", ttft)))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned()


def run(plan: Plan, size: Size) -> Simulation:
    found = simulated(plan, size).simulation
    assert found is not None
    return found


def figures(found: Simulation) -> dict[str, float]:
    return {f.metric: f.mean for f in found.figures}


@pytest.mark.parametrize("requests", [30, 2000])
def test_what_is_kept_does_not_grow_with_the_run(plan: Plan, requests: int) -> None:
    found = run(plan, Size(requests, seeds=1))
    for line in found.series:
        assert {len(line.waiting), len(line.running), len(line.kv), len(line.busy)} == {SLICES}
    assert {len(d.values) for d in found.distributions} == {len(SHARES)}
    assert len(found.canonical()) < 12_000


def test_many_replicas_share_the_series() -> None:
    found = run(planned(LINES + 3), Size(200, seeds=1))
    names = [name for line in found.series for name in line.replicas]
    assert len(found.series) == LINES
    assert names == [f"r{i}" for i in range(LINES + 3)]
    assert len(found.replicas) == LINES + 3


def test_the_same_simulation_gives_the_same_page(plan: Plan) -> None:
    once, again = (plan_html(simulated(plan, Size(100))) for _ in range(2))
    assert once == again
    saved = json.dumps(simulated(plan, Size(100)).model_dump(mode="json"))
    assert plan_html(Plan.model_validate(json.loads(saved))) == once


def test_series_agree_with_the_sums_over_the_run(plan: Plan) -> None:
    """One run: the averages over time of work and KV cache are those of the whole run."""
    found = run(plan, Size(500, seeds=1))
    for line, load in zip(found.series, found.replicas, strict=True):
        assert np.mean(line.busy) == pytest.approx(load.busy, abs=2e-3)
        assert np.mean(line.kv) == pytest.approx(load.kv_mean, abs=2e-3)
        assert max(line.kv) <= load.kv_peak + 1e-3
    assert sum(load.requests for load in found.replicas) == pytest.approx(500)


def test_distributions_agree_with_the_percentiles(plan: Plan) -> None:
    found = run(plan, Size(300))
    means = figures(found)
    for d in found.distributions:
        assert list(d.values) == sorted(d.values)
        assert d.values[found.shares.index(0.5)] == pytest.approx(means[f"p50({d.metric})"], rel=1e-3)
        assert d.values[found.shares.index(0.95)] == pytest.approx(means[f"p95({d.metric})"], rel=1e-3)


def test_attainment_is_the_share_that_keeps_every_latency_rule(plan: Plan) -> None:
    """Limits at the median of one latency, and at nothing at all."""
    easy = run(plan, Size(400))
    assert figures(easy)["attainment"] == 1.0
    assert figures(easy)["slo_goodput"] <= figures(easy)["goodput"] * (1 + 1e-9)
    median = figures(easy)["p50(ttft)"]
    half = figures(run(with_ttft_limit(plan, median), Size(400)))
    assert half["attainment"] == pytest.approx(0.5, abs=0.05)
    assert half["slo_goodput"] == pytest.approx(half["attainment"] * half["goodput"], rel=0.1)
    none = figures(run(with_ttft_limit(plan, median / 1000), Size(400)))
    assert (none["attainment"], none["slo_goodput"]) == (0.0, 0.0)


def with_ttft_limit(plan: Plan, seconds: float) -> Plan:
    rules = load_text(SPEC.replace("COUNT", "2").replace("TTFT", f"{1e6 * seconds:.0f}us")).spec.workflows[0].rules
    return plan.with_(workflow=plan.workflow.with_(rules=rules))


def test_cost_follows_from_price_and_rate(plan: Plan) -> None:
    found = figures(run(plan, Size(300, seeds=1)))
    usd_per_s = plan.cost_usd_per_h / 3600
    assert found["cost_per_token"] == pytest.approx(usd_per_s / found["throughput"], rel=1e-4)
    assert found["cost_per_request"] == pytest.approx(usd_per_s / found["goodput"])


def test_no_cost_without_a_price() -> None:
    card = "gpu card { memory = 24GB, bandwidth = 300GB/s, bf16 = 120TFLOP/s }\n"
    text = card + SPEC.replace("L4", "card").replace("COUNT", "1").replace("TTFT", "30s")
    found = figures(run(hexdsl.plan(load_text(text)), Size(100, seeds=1)))
    assert "utilisation" in found
    assert not {"cost_per_token", "cost_per_request"} & set(found)


def test_progress_counts_every_run_and_ends_complete(plan: Plan) -> None:
    shown: list[str] = []
    simulated(plan, Size(100, seeds=2), teller(shown.append, 100, 2))
    assert shown[0].endswith("0%  run 1 of 2, 0 of 100 requests")
    assert "50%  run 1 of 2, 100 of 100 requests" in shown[2]
    assert shown[-1].endswith("100%  run 2 of 2, 100 of 100 requests")
