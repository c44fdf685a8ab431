"""The shipped accelerators: all of them load, their figures are dense, and they are those of the collected table."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

import hexdsl.std
from hexdsl.ir.spec.gpu import FORMATS, Gpu
from hexdsl.lang.resolve import load_file, load_source
from hexdsl.lang.source import Source

CATALOG = Path(hexdsl.std.__file__).with_name("gpus.hex")
TABLE = Path(__file__).parents[3] / "shared" / "data" / "gpus.json"
GIB = 2**30
TFLOP = 1e12

NAMES = {
    "a100-80g-sxm": "A100",
    "a100-80g-pcie": "A100_PCIE",
    "a100-40g-sxm": "A100_40G",
    "h100-80g-sxm": "H100",
    "h100-80g-pcie": "H100_PCIE",
    "rtx6000ada-48g": "RTX_6000_ADA",
    "rtxpro6000-96g": "RTX_PRO_6000",
    "rtx5090-32g": "RTX_5090",
    "rtx4090-24g": "RTX_4090",
    "rtx3090-24g": "RTX_3090",
    "rtx3090ti-24g": "RTX_3090_TI",
    "rtxa5000-24g": "A5000",
    "rtxa4000-16g": "A4000",
    "b60-24g": "ARC_B60",
}
"""Rows whose name in the catalog is not the first part of their id."""

DENSE = {
    ("A100", "bf16"): 312,
    ("A100", "int8"): 624,
    ("H100", "bf16"): 989,
    ("H100", "fp8"): 1979,
    ("H100_PCIE", "fp8"): 1513,
    ("H200", "fp8"): 1979,
    ("B200", "fp4"): 9000,
    ("L40S", "bf16"): 362.05,
    ("L40S", "fp8"): 733,
    ("L4", "bf16"): 121,
    ("RTX_4090", "bf16"): 165.15,
    ("RTX_5090", "bf16"): 209.5,
    ("T4", "fp16"): 65,
    ("V100", "fp16"): 125,
    ("MI300X", "bf16"): 1307,
}
"""Datasheet figures in TFLOP/s that are often quoted with sparsity, or with 16-bit accumulation: twice as much."""


@pytest.fixture(scope="module")
def gpus() -> dict[str, Gpu]:
    return {gpu.name: gpu for gpu in load_file(CATALOG).spec.gpus}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    if not TABLE.exists():
        pytest.skip("the collected table gpus.json is not beside this checkout")
    return {NAMES.get(row["id"], row["id"].split("-")[0].upper()): row for row in json.loads(TABLE.read_text())["gpus"]}


def per_hour(gpu: Gpu) -> float | None:
    return None if gpu.price is None else gpu.price * 3600


def test_there_are_many_and_each_is_whole(gpus: dict[str, Gpu]) -> None:
    assert len(gpus) >= 30
    for gpu in gpus.values():
        assert gpu.bf16 or gpu.fp16, gpu.name
        assert gpu.link, gpu.name
        assert gpu.power, gpu.name
        assert "collected 20" in (gpu.source or ""), gpu.name


def test_usable_memory_is_less_than_nominal_but_not_much(gpus: dict[str, Gpu]) -> None:
    known = [gpu for gpu in gpus.values() if gpu.usable]
    assert len(known) >= 10
    for gpu in known:
        assert 0.92 < (gpu.usable or 0) / gpu.memory < 1, gpu.name


@pytest.mark.parametrize(("name", "field"), DENSE)
def test_figures_are_dense(gpus: dict[str, Gpu], name: str, field: str) -> None:
    assert getattr(gpus[name], field) == pytest.approx(DENSE[name, field] * TFLOP)


def test_fp8_is_at_most_twice_bf16(gpus: dict[str, Gpu]) -> None:
    """A sparse fp8 figure beside a dense bf16 one would be four times it."""
    for gpu in gpus.values():
        if gpu.fp8:
            assert gpu.bf16, gpu.name
            assert gpu.fp8 / gpu.bf16 < 2.1, gpu.name


def test_cards_without_bf16(gpus: dict[str, Gpu]) -> None:
    assert {name for name, gpu in gpus.items() if gpu.bf16 is None} == {"T4", "V100"}


def test_every_price_names_its_provider(gpus: dict[str, Gpu]) -> None:
    for gpu in gpus.values():
        assert (gpu.price is not None) == ("price: " in (gpu.source or "")), gpu.name


def test_a_price_is_overridden_by_a_base(gpus: dict[str, Gpu]) -> None:
    text = 'import "std/gpus.hex"\ngpu mine : H100 { price = $2/gpu/h }\n'
    (mine,) = load_source(Source("mine.hex", text)).spec.gpus
    assert per_hour(mine) == pytest.approx(2)
    assert (mine.memory, mine.fp8) == (gpus["H100"].memory, gpus["H100"].fp8)


def test_the_catalog_has_the_rows_of_the_table(gpus: dict[str, Gpu], rows: dict[str, dict[str, Any]]) -> None:
    assert gpus.keys() == rows.keys()


def test_memory_is_that_of_the_table(gpus: dict[str, Gpu], rows: dict[str, dict[str, Any]]) -> None:
    for name, row in rows.items():
        gpu = gpus[name]
        sizes = [size / GIB for size in (gpu.memory, gpu.usable) if size]
        assert row["mem_gb"] == pytest.approx(min(sizes, key=lambda size: abs(size - row["mem_gb"])), rel=1e-3), name
        assert sizes[0] == row.get("mem_gb_nominal", sizes[0]), name
        assert gpu.bandwidth == pytest.approx(row["mem_bw_gbps"] * 1e9), name


def test_rates_are_those_of_the_table(gpus: dict[str, Gpu], rows: dict[str, dict[str, Any]]) -> None:
    """The table rounds Hopper's fp8 to twice 989; the datasheet has 1979."""
    for name, row in rows.items():
        for field in FORMATS:
            rate = row.get(f"{field}_tops" if field == "int8" else f"{field}_tflops")
            if rate is not None:
                assert getattr(gpus[name], field) == pytest.approx(rate * TFLOP, rel=1e-3), (name, field)


def test_links_count_both_directions(gpus: dict[str, Gpu], rows: dict[str, dict[str, Any]]) -> None:
    """Bridges, which join only two cards and are bought apart, do not count; AMD's mesh has seven equal links."""
    for name, row in rows.items():
        fabric = row.get("nvlink_gbps_per_dir") or 0
        per_direction = 448 if row["arch"] == "CDNA3" else fabric if fabric >= 100 else row["pcie_gbps_per_dir"]
        assert gpus[name].link == pytest.approx(2 * per_direction * 1e9), name


def test_prices_are_the_median_of_the_table(gpus: dict[str, Gpu], rows: dict[str, dict[str, Any]]) -> None:
    for name, row in rows.items():
        prices = [price["usd_per_gpu_hour"] for price in row["prices"]]
        expected = pytest.approx(statistics.median(prices), abs=0.0051) if prices else None
        assert per_hour(gpus[name]) == expected, name
        for price in row["prices"]:
            assert price["provider"] in (gpus[name].source or ""), name


def test_power_and_capability_are_those_of_the_table(gpus: dict[str, Gpu], rows: dict[str, dict[str, Any]]) -> None:
    for name, row in rows.items():
        assert (gpus[name].power, gpus[name].sm) == (row["power_w"], row.get("sm")), name
