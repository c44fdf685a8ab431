"""Which replica gets a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm

from hexdsl.sim.prefix import held_tokens
from hexdsl.sim.replica import Replica
from hexdsl.sim.request import Request
from hexdsl.sim.spec import RouterSpec


class Wheel:
    """Smooth weighted round-robin, as in nginx: exact in the long run, deterministic; equal where all weights are 0."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        exact = {name: Fraction(repr(float(weight))) for name, weight in weights.items()}
        scale = lcm(*(weight.denominator for weight in exact.values()))
        whole = {name: int(weight * scale) for name, weight in exact.items() if weight}
        self._weights = whole or dict.fromkeys(weights, 1)
        self._round = sum(self._weights.values())
        self._credit = dict.fromkeys(self._weights, 0)

    def next(self) -> str:
        """Each turn adds every weight to its credit and takes the round's sum from the chosen one."""
        credit = self._credit
        for name, weight in self._weights.items():
            credit[name] += weight
        chosen = max(credit, key=credit.__getitem__)
        credit[chosen] -= self._round
        return chosen


class Router:
    """Chooses among replicas that are up; the order of the cluster breaks ties."""

    def __init__(self, spec: RouterSpec) -> None:
        self.spec = spec
        self._wheels: dict[tuple[str, ...], Wheel] = {}

    def choose(self, request: Request, able: Sequence[Replica], source: str = "") -> Replica:
        """One of `able`; `source` is the prefill replica that hands the request over."""
        if len(able) == 1:
            return able[0]
        if (source and self.spec.pairs) or self.spec.policy == "weighted":
            return self._turn(able, source if self.spec.pairs else "")
        if self.spec.policy == "prefix" and not source:
            return self._by_prefix(request, able)
        return min(able, key=self._load)

    def _turn(self, able: Sequence[Replica], source: str) -> Replica:
        key = (source, *(replica.spec.name for replica in able))
        if key not in self._wheels:
            self._wheels[key] = Wheel({name: self._weight(name, source) for name in key[1:]})
        chosen = self._wheels[key].next()
        return next(replica for replica in able if replica.spec.name == chosen)

    def _weight(self, name: str, source: str) -> float:
        return self.spec.pairs.get((source, name), 0.0) if source else self.spec.weights.get(name, 1.0)

    def _load(self, replica: Replica) -> float:
        weight = self.spec.weights.get(replica.spec.name, 1.0)
        return (replica.work.load + 1) / weight if weight else float("inf")

    def _by_prefix(self, request: Request, able: Sequence[Replica]) -> Replica:
        least = min(replica.work.load for replica in able)
        near = [replica for replica in able if replica.work.load <= least + self.spec.slack]
        return max(near, key=lambda r: (held_tokens(r.work.pool, request, r.work.block), -self._load(r)))
