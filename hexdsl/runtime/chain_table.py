"""Which chain of peers gets the next request: the cheapest as things are, or the one whose turn it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from math import inf

import numpy as np

from hexdsl.ir.chains import Chain, Hop, Row, Turns, Weighted, cheapest
from hexdsl.runtime.config import ChainsConfig


class ChainTable:
    """A config of chains at work.  `running` counts the requests that each peer has; the owner keeps `down`."""

    def __init__(self, config: ChainsConfig, down: Collection[str], running: Counter[str] | None = None) -> None:
        self.config, self.down = config, down
        self.running: Counter[str] = Counter() if running is None else running
        self.holders = {holder.name: holder for holder in config.holders}
        self._rows = [Row(h.name, *h.layers, h.layer_s) for h in config.holders]
        delays = np.array([[inf if d is None else d for d in row] for row in config.delays_s])
        places = [h.place for h in config.holders]
        self._rtt_s = delays[np.ix_(places, places)]
        np.fill_diagonal(self._rtt_s, 0.0)
        turns = [Weighted(chain, t.weight) for t in config.turns if (chain := self._whole(t.chain))]
        self._turns = Turns(turns) if config.cost == "load" and turns else None

    def choose(self, avoid: Collection[str] = ()) -> Chain:
        """The chain for a request, over none of the peers to `avoid`, the full ones and those that are down.

        Raises ValueError where there is none.
        """
        free = {name: self._free(name) and name not in avoid for name in self.holders}
        if self._turns is not None:
            chain = self._turns.next(lambda name: self.running[name] / self.holders[name].seats)
            if all(free[hop.node] for hop in chain):
                return chain
        load = np.array([self._load(name) if free[name] else inf for name in self.holders])
        return cheapest(self._rows, self.config.layers, self._rtt_s, load)[0]

    @property
    def up(self) -> set[str]:
        return self.holders.keys() - set(self.down)

    def possible(self, ready: Collection[str]) -> bool:
        """Whether these peers hold every layer."""
        at = 0
        for first, end in sorted(h.layers for h in self.config.holders if h.name in ready):
            if first > at:
                return False
            at = max(at, end)
        return at == self.config.layers

    def take(self, chain: Chain) -> None:
        self.running.update({hop.node for hop in chain})

    def leave(self, chain: Chain) -> None:
        self.running.subtract({hop.node for hop in chain})

    def _free(self, name: str) -> bool:
        return name not in self.down and self.running[name] < self.holders[name].seats

    def _load(self, name: str) -> float:
        """How many times slower than an idle one a peer is taken to be: up to twice, as its seats fill."""
        return 1 + self.running[name] / self.holders[name].seats

    def _whole(self, names: Collection[str]) -> Chain | None:
        """The chain over these peers in this order, each with what is left of its layers; None where a layer lacks."""
        hops, at = list[Hop](), 0
        for name in names:
            first, end = self.holders[name].layers
            if first > at or end <= at:
                return None
            hops.append(Hop(name, at, end))
            at = end
        return tuple(hops) if at == self.config.layers else None
