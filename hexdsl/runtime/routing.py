"""Which replica gets the next request: smooth weighted round-robin, exact in the long run and deterministic."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction

from hexdsl.runtime.config import ReplicaConfig

REST = 1.0
"""Seconds for which a replica that refused a connection is not tried first."""


class Wheel:
    """Each turn adds every candidate's weight to its credit and takes the whole round's weight from the chosen one.

    The scheme of nginx's upstream module; fractions keep the credits exact.
    """

    def __init__(self, replicas: Sequence[ReplicaConfig], clock: Callable[[], float] = time.monotonic) -> None:
        self._replicas = {replica.name: replica for replica in replicas}
        self._weights = {replica.name: Fraction(repr(replica.weight)) for replica in replicas}
        self._credit = dict.fromkeys(self._replicas, Fraction(0))
        self._down_until = dict.fromkeys(self._replicas, 0.0)
        self._clock = clock

    def next(self, tried: Collection[str] = ()) -> ReplicaConfig | None:
        """The next replica that has not been tried, one that is up if there is any; None when all have been tried."""
        now = self._clock()
        left = [name for name in self._replicas if name not in tried]
        candidates = [name for name in left if self._down_until[name] <= now] or left
        if not candidates:
            return None
        for name in candidates:
            self._credit[name] += self._weights[name]
        chosen = max(candidates, key=lambda name: self._credit[name])
        self._credit[chosen] -= sum(self._weights[name] for name in candidates)
        return self._replicas[chosen]

    def refused(self, name: str) -> None:
        self._down_until[name] = self._clock() + REST

    def answered(self, name: str) -> None:
        self._down_until[name] = 0.0
