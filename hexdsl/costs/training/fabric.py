"""Collectives of a training step: rings within a machine and across machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from hexdsl.costs.efficiency import Provenance, weakest
from hexdsl.costs.gpu import Gpu
from hexdsl.costs.network import all_reduce
from hexdsl.costs.training.strategy import Array, Fabric, num


@dataclass(frozen=True, slots=True)
class Ring:
    """A group of n ranks: start-up seconds, and bytes/s that the busiest link carries."""

    n: Array
    alpha_s: Array
    bus: Array

    def gather(self, size: ArrayLike) -> Array:
        """Seconds of an all-gather that ends with `size` bytes, or of a reduce-scatter that starts with them."""
        return np.asarray(self._start() + num(size) * (self.n - 1) / self.n / self.bus)

    def reduce(self, size: ArrayLike) -> Array:
        """Seconds of an all-reduce of `size` bytes: a reduce-scatter and an all-gather."""
        return np.asarray(self._start() + 2 * num(size) * (self.n - 1) / self.n / self.bus)

    def exchange(self, size: ArrayLike) -> Array:
        """Seconds of an all-to-all in which each rank sends `size` bytes in all, its own share included."""
        return self.gather(size)

    def _start(self) -> Array:
        return np.where(self.n > 1, self.alpha_s, 0.0)


def ring(kinds: Sequence[Gpu], fabric: Fabric, n: ArrayLike, stride: ArrayLike, nic_share: float) -> Ring:
    """The ring of ranks 0, stride, 2 stride, ...: within a machine where all of them are in it.

    Across machines a group has as many NICs in each machine as it has ranks there; the slower of these and the
    machine's own links sets the pace.
    """
    size, step = num(n), num(stride)
    alphas, buses, _ = _inside(tuple(sorted(set(kinds), key=lambda g: g.name)), fabric)
    local = np.clip(np.floor(fabric.node_gpus / step), 1, size)
    index = local.astype(int) - 1
    alpha, bus = alphas[index], buses[index]
    crosses = size > local
    if fabric.outside is None:
        return Ring(size, alpha, np.where(crosses, 1e-9, bus))
    far = alpha + 2 * np.log2(np.maximum(size / local, 1)) * (fabric.outside.latency_s + alphas[-1] / 3)
    nics = fabric.outside.bandwidth * nic_share * local
    return Ring(size, np.where(crosses, far, alpha), np.where(crosses, np.minimum(bus, nics), bus))


def trust(kinds: Sequence[Gpu], fabric: Fabric) -> Provenance:
    """Where the speed of the machine's own links comes from."""
    return _inside(tuple(sorted(set(kinds), key=lambda g: g.name)), fabric)[2]


@cache
def _inside(kinds: tuple[Gpu, ...], fabric: Fabric) -> tuple[Array, Array, Provenance]:
    """Start-up and bus bandwidth within a machine for groups of 1, 2, ... ranks; the slowest kind sets the pace."""
    alphas, buses, sources = [0.0], [float("inf")], []
    for n in range(2, fabric.node_gpus + 1):
        found = [all_reduce((gpu,) * n, fabric.inside) for gpu in kinds]
        alphas.append(max(f.alpha_s for f in found))
        buses.append(2 * (n - 1) / n / max(f.s_per_byte for f in found))
        sources += [f.provenance for f in found]
    return np.array(alphas), np.array(buses), weakest("measured", *sources)
