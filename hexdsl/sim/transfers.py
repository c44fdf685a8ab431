"""Transfers of KV cache between replicas over links that they share."""

from __future__ import annotations

from collections.abc import Mapping

from hexdsl.costs.gpu import Link
from hexdsl.sim.job import Job


class Transfer:
    """Bytes of a job on their way over `links`; `left` of them have not been sent."""

    __slots__ = ("job", "left", "links", "rate")

    def __init__(self, job: Job, size: float, links: tuple[str, ...]) -> None:
        self.job, self.left, self.links, self.rate = job, size, links, 0.0


class Network:
    """Fair sharing: a link divides its bandwidth evenly among the transfers on it, and a transfer goes at the smallest
    share along its way.  What a transfer leaves unused on a link is not given to others."""

    def __init__(self, links: Mapping[str, Link]) -> None:
        self._links = links
        self._active: dict[Transfer, None] = {}
        self._load = dict.fromkeys(links, 0)
        self._at_s = 0.0
        self.busy_s = dict.fromkeys(links, 0.0)

    def latency_s(self, links: tuple[str, ...]) -> float:
        return sum(self._links[name].latency_s for name in links)

    def start(self, transfer: Transfer, now_s: float) -> None:
        self._advance(now_s)
        self._active[transfer] = None
        for name in transfer.links:
            self._load[name] += 1
        self._share()

    def stop(self, transfer: Transfer, now_s: float) -> None:
        """The transfer is complete or given up."""
        if transfer not in self._active:
            return
        self._advance(now_s)
        del self._active[transfer]
        for name in transfer.links:
            self._load[name] -= 1
        self._share()

    def next_end(self) -> tuple[float, Transfer] | None:
        """The transfer that is complete first, and when."""
        if not self._active:
            return None
        first = min(self._active, key=lambda t: t.left / t.rate)
        return self._at_s + first.left / first.rate, first

    def _advance(self, now_s: float) -> None:
        passed = now_s - self._at_s
        for transfer in self._active:
            transfer.left = max(0.0, transfer.left - passed * transfer.rate)
        for name, load in self._load.items():
            self.busy_s[name] += passed * (load > 0)
        self._at_s = now_s

    def _share(self) -> None:
        for transfer in self._active:
            transfer.rate = min(self._links[name].bandwidth / self._load[name] for name in transfer.links)
