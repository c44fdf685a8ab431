"""What is checked but not planned yet is said, or refused: never ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from serve_cases import planned

from hexdsl.api import load_text
from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.spec.common import FileRef
from hexdsl.ir.spec.workload import Workload

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
        ("serve", "prefill -> decode { kv_transfer = blocking }", "kv_transfer = blocking"),
        ("serve", "think { branches = 4 }", "think"),
        ("serve", "routing = per_request", "routing"),
        ("serve", "on_change { rate_shift = 50% }", "on_change"),
        ("workload", "classes = { chat = 60%, code = 40% }", "classes"),
        ("workload", "class chat { share = 100%, prompt = 10tok }", "classes"),
        ("workload", "clients = 4", "clients"),
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


def test_rules_of_a_phase_hold_where_that_phase_runs() -> None:
    plan = planned(load_text(spec("serve", "phase decode { tp == 2 }"), "case.hex").spec)
    assert {s.tp for r in plan.replicas for s in r.stages} == {2}
    assert [r.text for r in plan.rules] == ["tp == 2"]


def test_what_a_trace_gave_and_what_counts_beside_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("day.csv").write_text("arrival,prompt,output\n0,100,10\n1,300,30\n", encoding="utf-8")
    text = spec("workload", 'trace = file("day.csv")').replace("prompt = 200tok, ", "")
    notes = [n for n in planned(load_text(text, "case.hex").spec).notes if "day.csv" in n]
    assert len(notes) == 2
    assert "arrivals 1req/s" in notes[0]
    assert "prompts of 200 tokens on average" in notes[0]
    assert notes[1].startswith("answers: what is written beside the trace counts")


def test_a_trace_that_nobody_read_is_refused() -> None:
    loaded = load_text(spec(), "case.hex").spec
    unread = Workload(name="w", trace=FileRef(path="day.csv"))
    (serve,) = loaded.workflows
    with pytest.raises(NoPlanError) as caught:
        planned(loaded.with_(workflows=(serve.with_(workload=unread),)))
    assert caught.value.diagnostics[0].code == "P004"


def test_a_context_below_the_average_request_is_said() -> None:
    notes = planned(load_text(spec("serve", "context = 128tok"), "case.hex").spec).notes
    assert any("an average request takes 240 tokens, but the context is 128" in n for n in notes)
