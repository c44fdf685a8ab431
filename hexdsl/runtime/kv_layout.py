"""Which layers and KV heads each rank holds, and so what each rank of one replica sends to each of another.

KV heads are numbered over the whole model, so that any split into stages and any TP degree fits any other.
"""

from __future__ import annotations

from dataclasses import dataclass

from hexdsl.runtime.config import EngineConfig
from hexdsl.runtime.step import Peer

Range = tuple[int, int]
"""`[first, end)`."""


@dataclass(frozen=True, slots=True)
class Held:
    """A rank's part of the KV cache.  `owned` heads are those that it sends: the first of those that hold a head."""

    layers: Range
    heads: Range
    owned: Range

    def units(self, tokens: int) -> int:
        """What must come for some tokens: one unit a layer, head and token."""
        return _length(self.layers) * _length(self.heads) * tokens

    def share(self, peer: Peer) -> tuple[range, Range]:
        """The layers and heads that go to a peer; either may be empty."""
        return range(*_common(self.layers, peer.layers)), _common(self.owned, peer.heads)


def held_by(config: EngineConfig, rank: int, kv_heads: int) -> Held:
    """The part of a rank; where a stage has more ranks than there are KV heads, heads are repeated."""
    stage = config.stages[config.stage_of(rank)]
    place = stage.ranks.index(rank)
    held = max(1, kv_heads // stage.tp)
    first = place * kv_heads // stage.tp
    repeated = place > 0 and (place - 1) * kv_heads // stage.tp == first
    return Held(stage.layers, (first, first + held), (first, first if repeated else first + held))


def _common(one: Range, other: Range) -> Range:
    first = max(one[0], other[0])
    return first, max(first, min(one[1], other[1]))


def _length(of: Range) -> int:
    return of[1] - of[0]
