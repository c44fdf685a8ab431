"""All-reduce and transfers."""

from __future__ import annotations

import pytest
from costs_shapes import A100, ETHERNET, H100, L40S, NVLINK, PCIE4, UNKNOWN

from hexdsl.costs.gpu import Link
from hexdsl.costs.network import all_reduce, transfer


def test_one_gpu_reduces_nothing() -> None:
    assert all_reduce([H100], None).seconds(1e9) == 0


def test_measured_bus_bandwidth_is_used_where_the_fabric_is_the_measured_one() -> None:
    found = all_reduce([H100] * 8, NVLINK)
    assert found.provenance == "measured"
    assert found.seconds(128 * 2**20) == pytest.approx(15.6e-6 + 128 * 2**20 * 2 * 7 / 8 / 417.1e9)


def test_pcie_collapses_as_measured() -> None:
    two, eight = (128e6 * 2 * (n - 1) / n / float(all_reduce([L40S] * n, PCIE4).seconds(128e6)) for n in (2, 8))
    assert two == pytest.approx(20e9, rel=0.01)
    assert eight == pytest.approx(1.4e9, rel=0.01)


def test_an_h100_on_pcie_does_not_get_nvlink_speed() -> None:
    found = all_reduce([H100] * 4, PCIE4)
    assert found.provenance == "modelled"
    assert found.s_per_byte > 10 * all_reduce([H100] * 4, NVLINK).s_per_byte


def test_nothing_said_means_pcie() -> None:
    assert all_reduce([UNKNOWN] * 2, None) == all_reduce([UNKNOWN] * 2, Link(32e9))


def test_slowest_kind_sets_the_pace() -> None:
    mixed = all_reduce([A100, H100], NVLINK)
    assert mixed.s_per_byte == all_reduce([A100] * 2, NVLINK).s_per_byte


def test_larger_groups_are_slower_beyond_the_table_too() -> None:
    times = [float(all_reduce([UNKNOWN] * n, NVLINK).seconds(1e6)) for n in (2, 4, 8, 16, 32)]
    assert times == sorted(times)


def test_network_latency_counts_per_doubling() -> None:
    slow = Link(12.5e9, 1e-3)
    assert all_reduce([UNKNOWN] * 4, slow).alpha_s == pytest.approx(4e-3)


def test_transfer() -> None:
    assert transfer(ETHERNET, 3.125e6) == pytest.approx(1e-3 + 20e-6)
