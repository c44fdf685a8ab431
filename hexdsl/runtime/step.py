"""One step of the engine as it travels between ranks: plain JSON in a byte tensor, nothing pickled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose the token after a chunk.  `index`, the token's number in the answer, and `seed` fix the draw."""

    temperature: float
    top_p: float
    seed: int
    index: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence to compute, from position `start`, and the sequence's block table.

    `draw` is None while a prompt is only partly computed.
    """

    tokens: tuple[int, ...]
    start: int
    blocks: tuple[int, ...]
    draw: Draw | None = None

    @property
    def positions(self) -> range:
        return range(self.start, self.start + len(self.tokens))


@dataclass(frozen=True, slots=True)
class Peer:
    """A rank of another replica: where it takes KV, and the layers and KV heads `[first, end)` that it holds."""

    host: str
    port: int
    layers: tuple[int, int]
    heads: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Send:
    """The KV of the positions `[start, end)`, once this step is computed, goes to the peers in `bits` a value."""

    transfer: str
    blocks: tuple[int, ...]
    start: int
    end: int
    peers: tuple[Peer, ...]
    bits: int


@dataclass(frozen=True, slots=True)
class Open:
    """KV of `tokens` positions will come for these blocks."""

    transfer: str
    blocks: tuple[int, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing more comes or goes: from this step on the blocks may be another sequence's."""

    transfer: str


Move = Send | Open | Close


@dataclass(frozen=True, slots=True)
class Step:
    """`run` computes the chunks, `beat` only shows that the pipeline is alive, `stop` ends the ranks.

    `moves` begin and end transfers of KV between replicas; a step may hold nothing else.
    """

    kind: Literal["run", "beat", "stop"]
    chunks: tuple[Chunk, ...] = ()
    moves: tuple[Move, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(len(chunk.tokens) for chunk in self.chunks)

    @property
    def draws(self) -> tuple[Draw, ...]:
        return tuple(chunk.draw for chunk in self.chunks if chunk.draw)


_STEP = TypeAdapter(Step)


def encode(step: Step) -> bytes:
    return _STEP.dump_json(step)


def decode(data: bytes) -> Step:
    return _STEP.validate_json(data)
