"""`hexc replan` of a bundle: it keeps to what the bundle was made for, and says what is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_harness import Hexc

SPEC = """
gpu core { memory = 4GB, bandwidth = 10GB/s, fp32 = 60GFLOP/s }
cluster box { nodes a { count = 3, gpus = core } }
model tiny { layers = 2, hidden = 64, heads = 4, ffn = 128, vocab = 256, weights = fp32, path = "weights/tiny" }
workload load { arrivals = poisson(2req/s), prompt = 40tok, output = 40tok }
serve s { model = tiny, on = box, workload = load, context = 256tok, max_batch = 8
  replicas >= 3
  maximize goodput
  target vllm { launcher = local }
  target torch { launcher = local, ports = 18300 } }
"""


@pytest.fixture
def bundle(tmp_path: Path, hexc: Hexc) -> Path:
    (tmp_path / "a.hex").write_text(SPEC)
    said = hexc("compile", tmp_path / "a.hex", "--target", "torch", "-o", tmp_path / "bundle")
    assert said.code == 0, said.err
    return tmp_path / "bundle"


def test_a_change_of_a_change_starts_replicas_with_the_engine_and_weights_of_the_bundle(
    bundle: Path, hexc: Hexc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    assert hexc("replan", "bundle", "--lost", "r1", "-o", "one").code == 0
    said = hexc("replan", "one", "--rate", "1000x", "--added", "a=1", "-o", "two", "--json")
    assert said.code == 0, said.err
    (new,) = (m["replica"] for m in said.json["replicas"] if m["fate"] == "starts")
    config = json.loads(Path("two/config/replica-0.json").read_text())
    assert config["model"]["path"] == str(bundle.parent / "weights/tiny")
    change = json.loads(Path("two/change.json").read_text())
    assert change["router"] == "http://127.0.0.1:18300"
    urls = {r["name"]: r["url"] for r in change["routing"]["replicas"]}
    ran = {r["name"]: r["url"] for r in json.loads((bundle / "config/router.json").read_text())["replicas"]}
    assert {name: url for name, url in urls.items() if name != new} == {name: ran[name] for name in ("r0", "r2")}
    ports = {p["port"] for q in json.loads((bundle / "launch.json").read_text())["processes"] for p in q["ports"]}
    assert int(urls[new].rpartition(":")[2]) not in ports


def test_where_no_plan_keeps_the_rules_the_light_one_is_told(bundle: Path, hexc: Hexc) -> None:
    said = hexc("replan", bundle, "--lost", "a-1", "--full", "--json")
    assert said.code == 0
    assert said.json["anew"] is None
    assert [rule["text"] for rule in said.json["broken"]] == ["replicas >= 3"]
    assert "no plan from nothing" in said.err
    assert "at most 2" in said.err


@pytest.mark.parametrize(
    ("router", "text"),
    [
        ("{", "damaged"),
        ("[]", "does not list replicas"),
        ('{"replicas": 3}', "does not list replicas"),
        ('{"replicas": [{"name": "r0"}]}', "does not list replicas"),
        ('{"replicas": [{"name": "r0", "url": "r0:x"}]}', "does not list replicas"),
        ('{"replicas": [{"name": "r0", "url": "http://127.0.0.1:18301"}]}', "does not know `r2`"),
        ("\xff", "not UTF-8"),
    ],
)
def test_a_router_that_is_damaged_or_another_is_told(bundle: Path, hexc: Hexc, router: str, text: str) -> None:
    (bundle / "config/router.json").write_bytes(router.encode("latin-1"))
    said = hexc("replan", bundle, "--lost", "r1", "-o", bundle.parent / "change")
    assert said.code == 2
    assert "P015" in said.err
    assert text in said.err
    assert not (bundle.parent / "change").exists()


@pytest.mark.parametrize("rate", ["9" * 400 + "x", "0req/s", "-1x", "2 x", "x"])
def test_a_load_that_is_none_is_told(bundle: Path, hexc: Hexc, rate: str) -> None:
    said = hexc("replan", bundle, f"--rate={rate}")
    assert said.code == 2
    assert "--rate" in said.err
