"""What is checked but not planned yet is said, or refused: never ignored."""

from __future__ import annotations

import pytest
from serve_cases import planned

from hexdsl.api import load_text
from hexdsl.ir.diagnostic import NoPlanError

SPEC = """
gpu g {{ memory = 300MB, reserve = 10MB, bandwidth = 400GB/s, bf16 = 40TFLOP/s{gpu} }}
cluster c {{
  nodes a {{ gpus = 2 * g }}
  {cluster}
}}
model m {{ layers = 5, hidden = 1024, heads = 8, kv_heads = 4, ffn = 4096, vocab = 4_000{model} }}
workload w {{
  prompt = 200tok, output = 40tok
  {workload}
}}
serve s {{
  model = m, on = c, workload = w
  {serve}
}}
"""
PLACES = ("gpu", "cluster", "model", "workload", "serve")


def spec(place: str = "serve", text: str = "") -> str:
    return SPEC.format(**{p: text if p == place else "" for p in PLACES})


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        ("serve", "phase prefill { parallel = auto }", "phase prefill"),
        ("serve", "phase decode { tp <= 2 }", "phase decode"),
        ("serve", "prefill -> decode { kv_transfer = overlapped }", "prefill -> decode"),
        ("serve", "think { branches = 4 }", "think"),
        ("serve", "routing = per_request", "routing"),
        ("serve", "on_change { rate_shift = 50% }", "on_change"),
        ("workload", "classes = { chat = 60%, code = 40% }", "classes"),
        ("workload", "class chat { share = 100%, prompt = 10tok }", "classes"),
        ("workload", "clients = 4", "clients"),
        ("workload", "arrivals = gamma(rate = 1req/s, cv = 3)", "gamma"),
        ("cluster", "churn = 5%/h", "churn"),
        ("model", ", attention = sparse(block = 64)", "attention"),
    ],
)
def test_a_note_for_each(place: str, text: str, said: str) -> None:
    notes = planned(load_text(spec(place, text), "case.hex").spec).notes
    found = [n for n in notes if n.startswith("W001: ")]
    assert len(found) == 1
    assert said in found[0]
    assert "checked, but not planned yet" in found[0]


def test_no_note_where_nothing_of_it_is_written() -> None:
    assert not [n for n in planned(load_text(spec(), "case.hex").spec).notes if "W001" in n]


def refused(text: str) -> NoPlanError:
    with pytest.raises(NoPlanError) as caught:
        planned(load_text(text, "case.hex").spec)
    return caught.value


def test_rules_of_a_class_are_refused_at_their_place() -> None:
    text = spec("workload", "class chat { share = 100%, p95(ttft) <= 1s }")
    found = refused(text).diagnostics[0]
    assert found.code == "P004"
    assert text[found.labels[0].span.start : found.labels[0].span.end] == "p95(ttft) <= 1s"


def test_rules_of_a_phase_hold_for_the_whole_replica() -> None:
    plan = planned(load_text(spec("serve", "phase decode { tp == 2 }"), "case.hex").spec)
    assert {s.tp for r in plan.replicas for s in r.stages} == {2}
    assert [r.text for r in plan.rules] == ["tp == 2"]


def test_lengths_that_only_a_trace_says_are_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    with open("trace.csv", "w", encoding="utf-8") as file:
        file.write("time,prompt,output\n0,10,10\n")
    trace = 'trace = file("trace.csv")'
    found = refused(spec("workload", trace).replace("prompt = 200tok, output = 40tok", "")).diagnostics[0]
    assert found.code == "P004"
    assert "trace.csv" in found.message
    notes = planned(load_text(spec("workload", trace), "case.hex").spec).notes
    assert any("`trace`" in n for n in notes)


def test_a_context_below_the_average_request_is_said() -> None:
    notes = planned(load_text(spec("serve", "context = 128tok"), "case.hex").spec).notes
    assert any("an average request takes 240 tokens, but the context is 128" in n for n in notes)
