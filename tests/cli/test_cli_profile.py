"""`hexc profile`: a real measurement, imported tables, and what a plan makes of a profile."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from cli_harness import Hexc, executable

TABLE = "operator,dtype,m,n,k,batch,heads,kv_heads,head_dim,tokens,bytes,gpus,seconds\n"
TABLE += (
    "gemm,bf16,1,8192,8192,,,,,,,,5e-5\ngemm,bf16,1024,8192,8192,,,,,,,,2e-4\ngemm,bf16,4096,8192,8192,,,,,,,,8e-4\n"
)
TABLE += "attention_prefill,bf16,,,,1,32,8,128,512,,,1e-5\nattention_prefill,bf16,,,,1,32,8,128,8192,,,1.2e-3\n"
TABLE += "attention_decode,bf16,,,,32,32,8,128,8192,,,4e-4\n"


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_this_machine_is_measured(tmp_path: Path) -> None:
    said = executable(
        "profile", "--quick", "--device", "cpu", "-o", "cpu.json", "--save-table", "cpu.csv", cwd=tmp_path
    )
    said.tidy()
    assert said.code == 0, said.err
    made = json.loads((tmp_path / "cpu.json").read_text())
    assert made["gemm"]["fp32"]["flop_per_s"][0] > 1e8
    assert made["copy_bytes_per_s"] > 1e8
    assert made["attention"]["tokens"][0] == 256
    assert made["all_reduce"]["gpus"] == [2]
    assert made["p2p"]["bytes_per_s"] > 1e6
    (tmp_path / "spec.hex").write_text(said.out)
    assert executable("check", "spec.hex", cwd=tmp_path).code == 0, "what it prints can be pasted into a spec"
    again = executable("profile", "--from", "cpu.csv", "--gpu", made["gpu"], "--json", cwd=tmp_path).json
    assert again["gemm"]["fp32"]["flop_per_s"] == pytest.approx(made["gemm"]["fp32"]["flop_per_s"], rel=1e-4)


def test_a_table_becomes_a_profile(hexc: Hexc, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    out = tmp_path / "h100.profile.json"
    said = hexc("profile", "--from", tmp_path / "t.csv", "--gpu", "NVIDIA H100 80GB HBM3", "-o", out)
    said.tidy()
    assert said.code == 0
    assert 'profile   = "h100.profile.json"' in said.out
    made = json.loads(out.read_text())
    assert made["weights_bytes_per_s"] == pytest.approx(2 * 8192 * 8192 / 5e-5, rel=1e-5)
    assert made["gemm"]["bf16"]["m"] == [1, 1024, 4096]


def planned(hexc: Hexc, spec: Path) -> dict[str, str]:
    """The provenance of each part of the predicted time per output token."""
    said = hexc("plan", spec, "--json")
    assert said.code == 0, said.err
    tpot = next(p for p in said.json["predictions"] if p["metric"] == "tpot")
    return {t["name"]: t["provenance"] for t in tpot["terms"]}


SPEC = """\
import "std/gpus.hex"
import "std/models.hex"
gpu mine : H100 { profile = "h100.profile.json" }
cluster c { nodes a { gpus = 2 * mine } }
workload w { prompt = 1000, output = 200 }
serve s {
  model = llama8b
  on = c
  workload = w
  maximize throughput
}
"""


def test_a_plan_rests_on_the_profile_that_its_spec_names(hexc: Hexc, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    hexc(
        "profile", "--from", tmp_path / "t.csv", "--gpu", "NVIDIA H100 80GB HBM3", "-o", tmp_path / "h100.profile.json"
    )
    (tmp_path / "s.hex").write_text(SPEC)
    found = planned(hexc, tmp_path / "s.hex")
    assert found["weights"] == found["prefill of others"] == "profiled"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("{}", "E141", "format_version"),
        ("not JSON", "E141", "not JSON"),
        ('{"format_version": "1.0", "gpu": "NVIDIA A100", "weights_bytes_per_s": 1.7e12}', "E110", "another GPU"),
        ('{"format_version": "1.0", "gpu": "NVIDIA H100", "weights_bytes_per_s": NaN}', "E141", "NaN"),
        (None, "E001", "h100.profile.json"),
    ],
)
def test_a_spec_with_a_bad_profile(hexc: Hexc, tmp_path: Path, text: str | None, code: str, says: str) -> None:
    if text is not None:
        (tmp_path / "h100.profile.json").write_text(text)
    (tmp_path / "s.hex").write_text(SPEC)
    said = hexc("check", tmp_path / "s.hex")
    said.tidy()
    assert said.code in (1, 2)
    assert f"error[{code}]" in said.err
    assert says in said.err
    assert "s.hex:3:" in said.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--from", "t.csv"), "E004", "--gpu"),
        (("--from", "no.csv", "--gpu", "X"), "E001", "no.csv"),
        (("--from", "bad.csv", "--gpu", "X"), "E142", "line 2"),
        (("--from", "t.csv", "--gpu", "X", "-o", "no/p.json"), "P010", "cannot be written"),
        (("--device", "tpu"), "E004", "tpu"),
    ],
)
def test_bad_options(
    hexc: Hexc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "bad.csv").write_text(TABLE.replace("5e-5", "-5"))
    said = hexc("profile", *words)
    said.tidy()
    assert said.code == 2
    assert f"error[{code}]" in said.err
    assert says in said.err


def test_cuda_on_a_machine_without_it(hexc: Hexc) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    said = hexc("profile", "--device", "cuda")
    assert said.code == 2
    assert "finds no CUDA device" in said.err
