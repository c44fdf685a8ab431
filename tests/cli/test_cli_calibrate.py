"""`hexc calibrate`: from measured rows to a profile that specs and estimates use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_harness import Hexc

HEADER = "model,gpu,precision,tp,batch,isl,osl,tpot_ms,ttft_ms\n"


@pytest.fixture
def run(hexc: Hexc, tmp_path: Path) -> Path:
    """Rows of an engine that takes a quarter longer than predicted."""
    points = "".join(
        f"{m},H100,bf16,{tp},{b},{i},{o}\n"
        for m, tp in (("llama8b", 1), ("llama70b", 4))
        for b in (1, 8, 32)
        for i, o in ((300, 100), (2000, 500))
    )
    path = tmp_path / "run.csv"
    path.write_text("model,gpu,precision,tp,batch,isl,osl\n" + points)
    found = hexc("estimate", "--from", path, "--json").json["points"]
    rows = zip(points.splitlines(), found, strict=True)
    path.write_text(
        HEADER + "".join(f"{row},{1250 * p['tpot_s']['value']},{1500 * p['ttft_s']['value']}\n" for row, p in rows)
    )
    return path


def test_a_fit_is_reported_with_its_errors(hexc: Hexc, run: Path) -> None:
    said = hexc("calibrate", run)
    said.tidy()
    assert said.code == 0
    for words in ("12 rows", "weights", "before", "after", "one configuration", "left out"):
        assert words in said.out


def test_the_profile_it_writes_brings_estimates_to_the_measurements(hexc: Hexc, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "h100.profile.json"
    assert hexc("calibrate", run, "-o", out).code == 0
    words = (
        "estimate",
        "--model",
        "llama8b",
        "--gpu",
        "H100",
        "--batch",
        "8",
        "--isl",
        "2000",
        "--osl",
        "500",
        "--json",
    )
    (before,), (after,) = (hexc(*words, *more).json["points"] for more in ((), ("--profile", out)))
    assert after["tpot_s"]["value"] == pytest.approx(1.25 * before["tpot_s"]["value"], rel=0.05)
    assert next(o for o in after["operations"] if o["name"] == "KV cache")["provenance"] == "profiled"


def test_it_becomes_a_part_of_a_measured_profile(hexc: Hexc, run: Path, tmp_path: Path) -> None:
    base, out = tmp_path / "base.json", tmp_path / "out.json"
    base.write_text('{"format_version": "1.0", "gpu": "NVIDIA H100", "weights_bytes_per_s": 2.8e12}')
    assert hexc("calibrate", run, "--profile", base, "-o", out).code == 0
    made = json.loads(out.read_text())
    assert made["weights_bytes_per_s"] == 2.8e12
    assert made["calibration"]["rows"] == 12
    again = tmp_path / "again.json"
    assert hexc("calibrate", run, "--profile", out, "-o", again).code == 0
    assert again.read_text() == out.read_text(), "an earlier calibration is replaced, not built upon"


def test_a_profile_is_of_one_gpu(hexc: Hexc, run: Path) -> None:
    run.write_text(run.read_text() + "llama8b,H200,bf16,1,8,300,100,9,90\n")
    said = hexc("calibrate", run)
    assert said.code == 2
    assert "rows of H100 and H200" in said.err
    chosen = hexc("calibrate", run, "--gpu", "H100")
    assert chosen.code == 0
    assert "1 rows of other GPUs" in chosen.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (HEADER, "no rows"),
        ("model,gpu,batch,isl,osl\nllama8b,H100,1,10,10\n", "no column `tpot_ms`"),
        (HEADER + "llama8b,H100,bf16,1,8,300,100,9,90\n" * 2, "too few to fit"),
        (HEADER + "llama8b,H100,bf16,1,8,300,100,nan,90\n" * 5, "line 2: `tpot_ms` is nan"),
        (HEADER + "llama8b,H100,bf16,1,8,300,100,,90\n" * 5, "line 2: `tpot_ms` is empty"),
        (HEADER + "llama8b,H100,bf16,1,8,300,100,-1,90\n" * 5, "must be more than zero"),
        (HEADER + "llama70b,H100,bf16,1,8,300,100,9,90\n" * 5, "does not fit on this GPU"),
    ],
)
def test_bad_runs(hexc: Hexc, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "run.csv").write_text(text)
    said = hexc("calibrate", tmp_path / "run.csv")
    said.tidy()
    assert said.code == 2
    assert says in said.err
    assert "help" in said.err
