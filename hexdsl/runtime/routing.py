"""Which replica gets the next request: smooth weighted round-robin, exact in the long run and deterministic."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from typing import Any

from hexdsl.runtime.config import ReplicaConfig, RoutingConfig

PLAIN = 16
"""Bits of a value of KV that travels as it is."""


class Wheel:
    """Each turn adds every candidate's weight to its credit and takes the whole round's weight from the chosen one.

    The scheme of nginx's upstream module; fractions keep the credits exact.  `down` names replicas that are tried
    last; the owner keeps it.
    """

    def __init__(self, weights: Mapping[str, float], down: Collection[str] = ()) -> None:
        self._weights = {name: Fraction(repr(weight)) for name, weight in weights.items()}
        self._credit = dict.fromkeys(self._weights, Fraction(0))
        self._down = down

    def next(self, tried: Collection[str] = ()) -> str | None:
        """The next replica that has not been tried, one that is up if there is any; None when all have been tried."""
        left = [name for name in self._weights if name not in tried]
        candidates = [name for name in left if name not in self._down] or left
        if not candidates:
            return None
        for name in candidates:
            self._credit[name] += self._weights[name]
        chosen = max(candidates, key=lambda name: self._credit[name])
        self._credit[chosen] -= sum(self._weights[name] for name in candidates)
        return chosen

    def turns(self) -> Iterator[str]:
        """The replicas to try for one request, each once, in turn."""
        tried: list[str] = []
        while name := self.next(tried):
            tried.append(name)
            yield name

    def order(self) -> list[str]:
        """The next replica, then the others that are up by falling weight: for one who tries them by himself."""
        first = self.next()
        others = [name for name in self._weights if name != first and name not in self._down]
        return [name for name in (first, *sorted(others, key=lambda n: -self._weights[n])) if name]


class Table:
    """A routing config at work: who takes new requests, and who goes on with whose."""

    def __init__(self, config: RoutingConfig, down: Collection[str] = ()) -> None:
        self.config, self.down = config, down
        self.replicas = {replica.name: replica for replica in config.replicas}
        self.entries = self._wheel(replica for replica in config.replicas if replica.role != "decode")
        self.decodes = self._wheel(replica for replica in config.replicas if replica.role == "decode")
        self._targets = {name: self._targets_of(name) for name in self.replicas}
        self._bits = {(h.source, h.target): h.bits for h in config.handovers}

    def targets(self, source: str) -> Wheel:
        """Those that decode what `source` prefilled, by the shares of its handovers."""
        return self._targets[source]

    def takers(self, source: str) -> list[dict[str, Any]]:
        """Where the KV of one request of `source` is to go, the best first; empty for one that does both halves."""
        if self.replicas[source].role != "prefill":
            return []
        return [self.target(source, name) for name in self.targets(source).order()]

    def target(self, source: str, name: str) -> dict[str, Any]:
        """A replica as one that hands over to it is told."""
        return {"name": name, "url": self.replicas[name].url, "bits": self._bits.get((source, name), PLAIN)}

    def _wheel(self, replicas: Iterator[ReplicaConfig]) -> Wheel:
        return Wheel({replica.name: replica.weight for replica in replicas}, self.down)

    def _targets_of(self, source: str) -> Wheel:
        own = {h.target: h.weight for h in self.config.handovers if h.source == source}
        return Wheel(own, self.down) if own else self.decodes
