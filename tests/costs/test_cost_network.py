"""All-reduce and transfers."""

from __future__ import annotations

import numpy as np
import pytest
from costs_shapes import A100, ETHERNET, H100, L40S, NVLINK, PCIE4, UNKNOWN

from hexdsl.costs.gpu import Gpu, Link
from hexdsl.costs.network import all_reduce, transfer


def test_one_gpu_reduces_nothing() -> None:
    assert all_reduce([H100], None).seconds(1e9) == 0


def test_measured_bus_bandwidth_is_used_where_the_fabric_is_the_measured_one() -> None:
    found = all_reduce([H100] * 8, NVLINK)
    assert found.provenance == "measured"
    assert found.seconds(128 * 2**20) == pytest.approx(3 * 15.6e-6 + 128 * 2**20 * 2 * 7 / 8 / 417.1e9)


@pytest.mark.parametrize(
    ("gpu", "link", "n", "size", "microseconds"),
    [
        (H100, NVLINK, 4, 2**18, 11.8),
        (H100, NVLINK, 4, 2**21, 27.7),
        (A100, NVLINK, 8, 2**21, 53.7),
        (L40S, PCIE4, 2, 2**18, 30.7),
        (L40S, PCIE4, 4, 2**18, 109.7),
    ],
)
def test_medium_messages_take_what_nccl_takes(gpu: Gpu, link: Link, n: int, size: int, microseconds: float) -> None:
    """Measured with NCCL 2.27 (aiconfigurator-core 0.12.0): neither the start-up nor the bandwidth rules there."""
    assert float(all_reduce([gpu] * n, link).seconds(size)) == pytest.approx(microseconds * 1e-6, rel=0.12)


def test_time_rises_with_the_message_and_is_never_less_than_the_bus_takes() -> None:
    found = all_reduce([H100] * 4, NVLINK)
    sizes = np.logspace(0, 9, 50)
    times = found.seconds(sizes)
    assert np.all(np.diff(times) > 0)
    assert np.all(times >= found.alpha_s + sizes * found.s_per_byte)


def test_cards_without_peer_to_peer_go_by_way_of_the_host() -> None:
    geforce, other = Gpu("RTX 3090", 24e9, 936e9, {"bf16": 71e12}), UNKNOWN
    assert all_reduce([geforce] * 2, PCIE4).s_per_byte == 2 * all_reduce([other] * 2, PCIE4).s_per_byte
    bridge = Link(56.25e9)
    assert all_reduce([geforce] * 2, bridge).s_per_byte == all_reduce([other] * 2, bridge).s_per_byte


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
