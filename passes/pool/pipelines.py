"""Pipelines over a pool of peers: the first phase of Parallax (arXiv 2509.26182), exactly and in time.

A pipeline is a row of nodes that together hold the L layers once.  A node of class t has room for `middle` layers; for
`first` beside the embedding, for `last` beside the output head, and for `both` if it is alone.  For k pipelines let
s(k) be the fewest nodes that they need; wanted is the k with the best score Z(k, s(k)), for any Z that grows with k and
falls with s, such as k^2 / s.

s(k) is a whole flow (`hexdsl.passes.pool.arcs`), whose size depends on classes and layers, not on nodes; so is the most
pipelines that there can be.  The k up to it are tried in the order of the best score that they could reach,
Z(k, s_low(k)), and the search ends when none can beat what is in hand: s_low(k) counts the largest nodes that have room
for k L layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hexdsl.passes.pool.arcs import ArcFlow, Room
from hexdsl.passes.pool.fill import fill

Score = Callable[[int, int], float]
"""Of k pipelines with s nodes in all."""


def room_of(memory: float, layer: float, embedding: float, head: float) -> Room:
    """Room of so many bytes for layers, beside the embedding on the first node and the head on the last."""
    rooms = [max(0, int((memory - a * embedding - b * head) / layer)) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
    return Room(*rooms)


@dataclass(frozen=True, slots=True)
class Peer:
    """A node: its room, and its speed by which layers are shared out (FLOP/s or bytes/s)."""

    name: str
    room: Room
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A peer holds the layers `[first, end)`."""

    peer: Peer
    first: int
    end: int


Pipe = tuple[Hold, ...]
"""A pipeline: its peers in order, which hold every layer once."""


@dataclass(frozen=True)
class Pipes:
    """Pipelines, the peers that are left over, and the best score that any choice of pipelines reaches."""

    layers: int
    pipes: tuple[Pipe, ...]
    spare: tuple[Peer, ...]
    score: float
    bound: float

    @property
    def stages(self) -> int:
        return sum(map(len, self.pipes))


def squared(k: int, stages: int) -> float:
    """Parallax's score k^2 / s."""
    return k * k / stages


def plan_pipes(peers: Sequence[Peer], layers: int, score: Score = squared) -> Pipes:
    """The pipelines with the best score; none where the peers do not hold the model."""
    rooms = Counter(p.room for p in peers if p.room.middle)
    flow = ArcFlow(rooms, layers)
    fewest = {k: _fewest(rooms, layers, k) for k in range(1, flow.most() + 1)}
    reach = {k: score(k, s) for k, s in fewest.items()}
    best, chosen, unproven = float("-inf"), list[tuple[Room, ...]](), float("-inf")
    for k in sorted(reach, key=lambda k: (-reach[k], -k)):
        if reach[k] <= best:
            break
        found, low = flow.fewest(k)
        if low is not None:
            unproven = max(unproven, score(k, max(low, fewest[k])))
        if found and score(k, sum(map(len, found))) > best:
            best, chosen = score(k, sum(map(len, found))), found
    pipes, spare = _seated(peers, chosen, layers)
    return Pipes(layers, pipes, spare, max(best, 0.0), max(best, unproven, 0.0))


def _needed(rooms: Iterable[Room], layers: int) -> int:
    """Layers of `middle` room that a pipeline takes at least: its own, and what embedding and head displace."""
    ends = min(r.middle - r.first for r in rooms) + min(r.middle - r.last for r in rooms)
    alone = [r.middle - r.both for r in rooms if r.both >= layers]
    return layers + min([ends, *alone])


def _fewest(rooms: Counter[Room], layers: int, k: int) -> int:
    """Nodes that k pipelines need at least: the largest, until they have room enough, and one for each."""
    needed = _needed(rooms, layers)
    missing, count = k * needed, 0
    for useful in sorted((min(needed, r.middle) for r in rooms.elements()), reverse=True):
        if missing <= 0:
            break
        missing, count = missing - useful, count + 1
    return max(count, k)


def _seated(
    peers: Sequence[Peer], chosen: Sequence[Sequence[Room]], layers: int
) -> tuple[tuple[Pipe, ...], tuple[Peer, ...]]:
    """Real peers in the pipelines, the quickest first, and their layers; and the peers that are left over."""
    waiting: dict[Room, list[Peer]] = {}
    for peer in sorted(peers, key=lambda p: p.speed):
        waiting.setdefault(peer.room, []).append(peer)
    pipes = tuple(seat([waiting[room].pop() for room in rooms], layers) for rooms in chosen)
    used = {hold.peer.name for pipe in pipes for hold in pipe}
    return pipes, tuple(p for p in peers if p.name not in used)


def seat(row: Sequence[Peer], layers: int) -> Pipe:
    """The layers of peers in this order, shared out by speed within their room."""
    last = len(row) - 1
    counts = fill(layers, [p.room.at(i == 0, i == last) for i, p in enumerate(row)], [p.speed for p in row])
    holds, first = list[Hold](), 0
    for peer, count in zip(row, counts, strict=True):
        holds.append(Hold(peer, first, first + count))
        first += count
    return tuple(holds)
