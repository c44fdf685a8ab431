"""What a pool is made of: kinds of equal nodes, the links between their regions, and what a plan makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Kind:
    """Equal nodes of one region: `rates[n - 1]` are the tokens/s of one that holds n layers, memory respected.

    Rates may rise with the layers at places (measured tables do).  Raises ValueError where a figure makes no sense.
    """

    name: str
    count: int
    rates: tuple[float, ...]
    region: str = ""

    def __post_init__(self) -> None:
        if self.count < 0 or not all(math.isfinite(r) and r >= 0 for r in self.rates):
            raise ValueError(f"kind {self.name}: counts and rates must be finite and not negative")

    @property
    def most(self) -> int:
        """The most layers that a node can hold at some rate."""
        return max((n for n, rate in enumerate(self.rates, 1) if rate > 0), default=0)


def table(kinds: Sequence[Kind], layers: int) -> Floats:
    """Rates by kind (rows) and layers 1, 2, ... up to the model's (columns); 0 where a node cannot hold so many."""
    width = min(layers, max((k.most for k in kinds), default=0))
    rows = [(*k.rates[:width], *[0.0] * (width - len(k.rates))) for k in kinds]
    return np.array(rows, dtype=np.float64).reshape(len(kinds), width)


@dataclass(frozen=True, slots=True)
class Wire:
    """A link between two nodes, per direction: tokens/s of activations that it carries, and seconds one way."""

    tokens_s: float = math.inf
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Links:
    """The wires between nodes by their regions, in either order; pairs that are not named have the `usual` one.

    `nic` bounds the tokens/s that go through a node's network card, per direction.  `entry` is the wire from the
    outside to a node and back, which carries token ids instead of activations.
    """

    usual: Wire = Wire()
    between: Mapping[tuple[str, str], Wire] = field(default_factory=dict)
    nic: float = math.inf
    entry: Wire = Wire()

    def wire(self, a: str, b: str) -> Wire:
        return self.between.get((a, b)) or self.between.get((b, a)) or self.usual

    @property
    def alike(self) -> bool:
        """Whether all pairs of nodes have the same wire."""
        return all(wire == self.usual for wire in self.between.values())


FREE = Links()
"""Links that neither bind nor delay."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers `[first, end)` held by `nodes[t]` nodes of each kind t, which together serve `rate` tokens/s."""

    first: int
    end: int
    nodes: tuple[int, ...]
    rate: float

    @property
    def layers(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class Line:
    """One replicated pipeline: stages in order, over the kinds of a pool.

    `complete` says that no pattern of nodes was left out of the search and every programme was solved to its end, so
    that no other pipeline of whole stages has `tolerance` more flow (relative).
    """

    kinds: tuple[Kind, ...]
    stages: tuple[Stage, ...]
    complete: bool = True
    tolerance: float = 0.0

    @property
    def depth(self) -> int:
        return len(self.stages)

    @property
    def flow(self) -> float:
        """Tokens/s where links do not bind: what the slowest stage serves."""
        return min(stage.rate for stage in self.stages)

    @property
    def nodes(self) -> int:
        return sum(map(sum, (s.nodes for s in self.stages)))

    @cached_property
    def holders(self) -> tuple[Holder, ...]:
        """Who holds what, node by node: the nodes of a kind are numbered in the order of the stages."""
        used, found = [0] * len(self.kinds), list[Holder]()
        for stage in self.stages:
            for t, kind in enumerate(self.kinds):
                for _ in range(stage.nodes[t]):
                    rate = kind.rates[stage.layers - 1]
                    found.append(Holder(f"{kind.name}-{used[t]}", stage.first, stage.end, rate, kind.region))
                    used[t] += 1
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Holder:
    """A node that holds the layers `[first, end)` and serves `rate` tokens/s with them."""

    name: str
    first: int
    end: int
    rate: float
    region: str = ""

    @property
    def layers(self) -> int:
        return self.end - self.first
