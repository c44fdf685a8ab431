"""Communication: all-reduce within a tensor-parallel group, and transfers between stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hexdsl.costs.efficiency import MeasuredReduce, Provenance, measured_reduce, pcie_without_peers, weakest
from hexdsl.costs.gpu import Gpu, Link

SWITCHED = 100e9
"""Bytes/s per direction from which a link counts as a switched GPU fabric (NVLink); PCIe 5 x16 has 64e9."""

PCIE = Link(32e9)
"""What a group gets where nothing is said: PCIe 4 x16, without peer-to-peer."""

QUICK_BYTES, FULL_START = 2.0, 3.0
"""NCCL's protocol for small messages sends a flag with each value, so that it moves twice the bytes but never waits for
a fence; the one for large messages moves them once and starts later, about three times as late in the measured
all-reduces of 0.5 KB to 128 MB on NVLink and PCIe hosts (aiconfigurator-core 0.12.0, NCCL 2.27)."""

_SIZES = (2, 4, 8)
_ALPHA_S = (8e-6, 13e-6, 24e-6)
_SWITCHED_SHARE = (0.6, 0.65, 0.65)
_PCIE_SHARE = (0.55, 0.25, 0.15)
"""Bus bandwidth over link bandwidth.  Measured: A100 and H100 0.6-0.9; PCIe hosts 0.6 at 2 GPUs, 0.04-0.4 at 8."""

STAGED = 0.5
"""Share of that bandwidth where cards cannot reach each other's memory: each byte crosses PCIe twice, by way of the
host's memory.  An A40 host without peer-to-peer moves 10 GB/s a way over PCIe 4 x16 (NVIDIA/nccl-tests, issue 74); the
prompts of Qwen3.6-27B on two RTX 3090 with and without NVLink come to 5 GB/s (noonghunna/club-3090, BENCHMARKS.md)."""


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Time of an all-reduce: `alpha_s` to start, and `s_per_byte` for large tensors."""

    alpha_s: float
    s_per_byte: float
    provenance: Provenance

    def seconds(self, size: ArrayLike) -> NDArray[np.float64]:
        """Seconds for tensors of so many bytes, by the quicker of the two protocols."""
        moved = np.asarray(size, dtype=np.float64) * self.s_per_byte
        return np.asarray(np.minimum(self.alpha_s + QUICK_BYTES * moved, FULL_START * self.alpha_s + moved))


NO_REDUCE = AllReduce(0.0, 0.0, "modelled")


def all_reduce(gpus: Sequence[Gpu], link: Link | None) -> AllReduce:
    """Ring all-reduce among the GPUs of a group; the kind with the slowest measured one sets the pace.

    Bus bandwidth is measured where the group's kind and fabric are known, else a share of the link's; bytes cross
    the bus 2(n-1)/n times.  A link's own latency counts twice per doubling of the group.
    """
    n, link = len(gpus), link or PCIE
    if n == 1:
        return NO_REDUCE
    found = [_one_kind(gpu, n, link) for gpu in sorted(set(gpus), key=lambda g: g.name)]
    alpha = max(max(f[0] for f in found), 2 * math.log2(n) * link.latency_s)
    bus = min(f[1] for f in found)
    factor = max(gpu.profile.network_factor if gpu.profile else 1.0 for gpu in gpus)
    return AllReduce(factor * alpha, factor * 2 * (n - 1) / n / bus, weakest(*(f[2] for f in found)))


def _one_kind(gpu: Gpu, n: int, link: Link) -> tuple[float, float, Provenance]:
    own = (gpu.profile.reduce, measured_reduce(gpu.profile.kind)) if gpu.profile else ()
    for measured in (*own, measured_reduce(gpu.kind)):
        if measured and n <= max(measured.counts) and (measured.fabric == "nvlink") == (link.bandwidth >= SWITCHED):
            return _measured(measured, n, link)
    shares = _SWITCHED_SHARE if link.bandwidth >= SWITCHED else _PCIE_SHARE
    alpha = float(np.interp(n, _SIZES, _ALPHA_S)) * max(1.0, math.log2(n) / 3)
    share = float(np.interp(n, _SIZES, shares)) * (STAGED if _staged(gpu, link) else 1.0)
    return alpha, link.bandwidth * share, "modelled"


def _staged(gpu: Gpu, link: Link) -> bool:
    """Whether traffic goes by way of the host: over PCIe, between cards whose driver allows no peer-to-peer."""
    pcie = pcie_without_peers(gpu.kind)
    return pcie is not None and link.bandwidth <= pcie


def _measured(measured: MeasuredReduce, n: int, link: Link) -> tuple[float, float, Provenance]:
    bus = float(np.interp(n, measured.counts, measured.bus))
    return float(np.interp(n, measured.counts, measured.alpha_s)), min(bus, link.bandwidth), measured.provenance


def transfer(link: Link, size: ArrayLike) -> NDArray[np.float64]:
    """Seconds to send so many bytes over a link, one way."""
    return link.latency_s + np.asarray(size, dtype=np.float64) / link.bandwidth
