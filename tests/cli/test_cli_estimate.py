"""`hexc estimate`: one point, many, training steps, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_harness import Hexc

ROWS = """\
model,gpu,precision,tp,batch,isl,osl
meta-llama/Llama-3.1-70B,h100_sxm,fp8,4,16,1024,1024
llama8b,A100,,1,8,500,100
"""
POINT = (
    "estimate",
    "--model",
    "llama70b",
    "--gpu",
    "H100",
    "--tp",
    "4",
    "--batch",
    "64",
    "--isl",
    "2000",
    "--osl",
    "500",
)


def test_one_point_for_people(hexc: Hexc) -> None:
    said = hexc(*POINT)
    said.tidy()
    assert said.code == 0
    for words in ("TTFT", "TPOT", "prefill of others", "roofline", "KV cache", "reserve", "measured"):
        assert words in said.out


def test_one_point_for_programs(hexc: Hexc) -> None:
    (point,) = hexc(*POINT, "--json").json["points"]
    assert point["tp"] == 4
    assert point["ttft_s"]["low"] < point["ttft_s"]["value"] < point["ttft_s"]["high"]
    assert sum(o["seconds"] for o in point["operations"]) == pytest.approx(point["tpot_s"]["value"], rel=1e-4)
    assert {o["provenance"] for o in point["operations"]} <= {"given", "profiled", "measured", "modelled"}
    assert point["output_tokens_per_s_per_gpu"] == pytest.approx(64 / point["tpot_s"]["value"] / 4, rel=1e-4)


def test_every_row_of_a_table(hexc: Hexc, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    points = hexc("estimate", "--from", tmp_path / "rows.csv", "--json").json["points"]
    assert [(p["gpu"], p["formats"]["weights"], p["tp"], p["batch"]) for p in points] == [
        ("H100", "fp8", 4, 16),
        ("A100", "bf16", 1, 8),
    ]
    assert hexc("estimate", "--from", tmp_path / "rows.csv").out.count("1024/1024") == 1


def test_models_and_gpus_of_a_spec(hexc: Hexc, spec: Path) -> None:
    (point,) = hexc("estimate", spec, "--model", "smollm", "--gpu", "core", "--json").json["points"]
    assert point["formats"]["weights"] == "fp32"
    assert {o["provenance"] for o in point["operations"]} >= {"modelled"}


def test_a_config_json(hexc: Hexc, tmp_path: Path) -> None:
    sizes = {
        "num_hidden_layers": 4,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 99,
    }
    config = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], **sizes})
    (tmp_path / "config.json").write_text(config)
    assert hexc("estimate", "--model", tmp_path, "--gpu", "L4").code == 0


def test_what_does_not_fit_is_said(hexc: Hexc) -> None:
    large = hexc("estimate", "--model", "llama405b", "--gpu", "L4")
    assert "not one request" in large.err
    many = hexc("estimate", "--model", "llama70b", "--gpu", "H100", "--tp", "2", "--batch", "500")
    assert "the others wait" in many.err


def test_a_training_step(hexc: Hexc) -> None:
    words = ("estimate", "--train", "--model", "llama8b", "--gpu", "H100", "--dp", "8", "--zero", "3", "--seq", "8192")
    said = hexc(*words)
    assert said.code == 0
    for part in ("MFU", "ZeRO 3", "optimizer", "sharded weights", "Memory of a rank"):
        assert part in said.out
    (step,) = hexc(*words, "--json").json["steps"]
    assert 0.3 < step["mfu"] < 0.7
    assert step["tokens_per_s_per_gpu"] == pytest.approx(8192 / step["step_s"]["value"], rel=1e-3)
    assert sum(t["value"] for t in step["step_s"]["terms"]) == pytest.approx(step["step_s"]["value"], rel=1e-3)


def test_training_rows(hexc: Hexc, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("model,gpu,dp,zero,seq\nllama8b,H100,8,3,8192\nllama3b,A100,4,1,4096\n")
    steps = hexc("estimate", "--train", "--from", tmp_path / "rows.csv", "--json").json["steps"]
    assert [(s["gpus"], s["strategy"]["zero"]) for s in steps] == [(8, 3), (4, 1)]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), "E004", "which model"),
        (("--model", "llama8b"), "E004", "which gpu"),
        (("--model", "lama8b", "--gpu", "H100"), "E020", "did you mean `llama8b`"),
        (("--model", "llama8b", "--gpu", "H1000"), "E020", "did you mean `H100`"),
        (("--model", "llama8b", "--gpu", "H100", "--tp", "5"), "E004", "tp 5 does not divide the 32 heads"),
        (("--model", "llama8b", "--gpu", "H100", "--tp", "0"), "E004", "more than zero"),
        (("--model", "llama8b", "--gpu", "H100", "--pp", "33"), "E004", "too much for the 32 layers"),
        (("--model", "llama8b", "--gpu", "H100", "--batch", "nan"), "E004", "`batch` is nan"),
        (("--model", "llama8b", "--gpu", "H100", "--isl", "1e12"), "E004", "out of range"),
        (("--model", "llama8b", "--gpu", "H100", "--precision", "int5"), "E004", "int5"),
        (("--model", "llama8b", "--gpu", "H100", "--link", "80GB"), "E032", "not a bandwidth"),
        (("--model", "llama8b", "--gpu", "H100", "--utilization", "9"), "E113", "out of range"),
        (("--model", "llama8b", "--gpu", "H100", "--profile", "no.json"), "E001", "no.json"),
        (("--model", "no.json", "--gpu", "H100"), "E001", "no.json"),
        (("--from", "no.csv"), "E001", "no.csv"),
        (("--from", "."), "E002", "folder"),
        (("--train", "--gpu", "H100"), "E004", "`model` is empty"),
        (("--train", "--model", "llama8b", "--gpu", "H100", "--dp", "16"), "E004", "more than the 8 of a machine"),
        (("--train", "--model", "llama8b", "--gpu", "H100", "--zero", "4"), "E004", "`zero`"),
        (("--train", "--model", "llama8b", "--gpu", "H100", "--tp", "3"), "P002", "does not divide"),
    ],
)
def test_bad_options(
    hexc: Hexc, words: tuple[str, ...], code: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    said = hexc("estimate", *words)
    said.tidy()
    assert said.code == 2
    assert f"error[{code}]" in said.err
    assert says in said.err
    assert hexc("estimate", *words, "--json").json["diagnostics"][0]["code"] == code


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("16,1024,1024", "16,nan,1024"), "line 2: `isl` is nan"),
        (("fp8,4,16", "fp8,-4,16"), "line 2: `tp` is -4"),
        (("llama8b", "llama8c"), "line 3: there is no model `llama8c`"),
        (("isl", "input"), "line 1: there is no column `isl`"),
        (("\nllama8b", "\nllama8b,1,1,1,1,1,1,1,1"), "line 3: the row has more values"),
    ],
)
def test_bad_rows(hexc: Hexc, tmp_path: Path, change: tuple[str, str], says: str) -> None:
    (tmp_path / "rows.csv").write_text(ROWS.replace(*change))
    said = hexc("estimate", "--from", tmp_path / "rows.csv")
    said.tidy()
    assert said.code == 2
    assert says in said.err
    assert "help" in said.err
