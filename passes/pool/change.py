"""Peers that come and go: the pool's pipelines change on as few peers as possible.

Leave.  The layers of a peer that is gone are a gap.  Wanted is the smallest set of peers that must load layers anew
(peers of the same pipeline and spares), such that everybody else keeps what they hold.  Sets are tried by size; of a
size, the quickest pipeline is taken, and of equals the one with more spares, since a spare interrupts nobody.  For a
set U of peers that give up what they hold, the gaps are the layers that nobody holds; each gap is filled by a row out
of U and the spares whose room, with the ends respected, suffices.  Where no set of at most `MOST_MOVED` peers does, the
pipeline is built anew from all its peers and the spares, or else given up and its peers become spares.
Join.  A peer that comes builds a new pipeline with the spares if they suffice, which touches no other peer; else it
stands by, and `stand_in` names the stage that it can relieve: routers that choose a chain for each request use it
(Parallax, arXiv 2509.26182, section on joining, places it by the layers' KV memory).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

from hexdsl.passes.pool.fill import fill
from hexdsl.passes.pool.pipelines import Hold, Peer, Pipe, Pipes, plan_pipes

MOST_MOVED = 4


@dataclass(frozen=True)
class Change:
    """The pipelines afterwards, and the peers that must load layers."""

    pipes: Pipes
    moved: tuple[str, ...]


def leave(pipes: Pipes, name: str) -> Change:
    """The pool without a peer.  Raises KeyError where there is none of this name."""
    if any(p.name == name for p in pipes.spare):
        return Change(replace(pipes, spare=tuple(p for p in pipes.spare if p.name != name)), ())
    hit = next((pipe for pipe in pipes.pipes if any(h.peer.name == name for h in pipe)), None)
    if hit is None:
        raise KeyError(name)
    left = [h for h in hit if h.peer.name != name]
    mended = mend(left, pipes.spare, pipes.layers) or _anew(left, pipes)
    others = tuple(p for p in pipes.pipes if p is not hit)
    if mended is None:
        return Change(replace(pipes, pipes=others, spare=(*pipes.spare, *(h.peer for h in left))), ())
    taken = {h.peer.name for h in mended}
    spare = [p for p in (*pipes.spare, *(h.peer for h in left)) if p.name not in taken]
    found = replace(pipes, pipes=tuple(mended if p is hit else p for p in pipes.pipes), spare=tuple(spare))
    return Change(found, _moved(left, mended))


def join(pipes: Pipes, peer: Peer) -> Change:
    """The pool with a peer more.  Raises ValueError where its name is taken."""
    spare = (*pipes.spare, peer)
    if peer.name in {p.name for p in pipes.spare} | {h.peer.name for pipe in pipes.pipes for h in pipe}:
        raise ValueError(f"there is a peer {peer.name} already")
    made = plan_pipes(spare, pipes.layers, lambda k, s: k - s / (len(spare) + 1))
    found = replace(pipes, pipes=(*pipes.pipes, *made.pipes), spare=made.spare)
    return Change(found, tuple(h.peer.name for pipe in made.pipes for h in pipe))


def stand_in(pipes: Pipes, peer: Peer) -> Hold | None:
    """The stage that a spare peer relieves most: the slowest of those for which it has room; None without any."""
    stages = [
        h
        for pipe in pipes.pipes
        for i, h in enumerate(pipe)
        if peer.room.at(i == 0, i == len(pipe) - 1) >= h.end - h.first
    ]
    slowest = max(stages, key=lambda h: (h.end - h.first) / h.peer.speed, default=None)
    return None if slowest is None else Hold(peer, slowest.first, slowest.end)


def _moved(before: Sequence[Hold], after: Pipe) -> tuple[str, ...]:
    kept = set(before)
    return tuple(h.peer.name for h in after if h not in kept)


def _anew(left: Sequence[Hold], pipes: Pipes) -> Pipe | None:
    """One pipeline from all peers that are at hand, with the fewest of them."""
    made = plan_pipes([*(h.peer for h in left), *pipes.spare], pipes.layers, lambda k, s: -k - s / 1e6)
    return made.pipes[0] if made.pipes else None


def mend(left: Sequence[Hold], spare: Sequence[Peer], layers: int) -> Pipe | None:
    """The pipeline with its gap filled by the fewest peers; None where `MOST_MOVED` do not suffice."""
    kinds = _distinct(spare)
    for moved in range(1, MOST_MOVED + 1):
        found = [p for s in range(moved, -1, -1) for p in _with(left, kinds, s, moved - s, layers)]
        if found:
            return min(found, key=_slowest)
    return None


def _distinct(spare: Sequence[Peer]) -> list[Peer]:
    """At most `MOST_MOVED` spares of each room and speed: others of the kind do the same."""
    counts: dict[object, int] = {}
    kept = []
    for peer in spare:
        key = (peer.room, peer.speed)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= MOST_MOVED:
            kept.append(peer)
    return kept


def _slowest(pipe: Pipe) -> float:
    return max((h.end - h.first) / h.peer.speed for h in pipe)


def _with(left: Sequence[Hold], spare: Sequence[Peer], spares: int, shifted: int, layers: int) -> Iterator[Pipe]:
    """Pipelines in which so many spares help, and so many peers of it give up what they hold."""
    if spares > len(spare) or shifted > len(left):
        return
    for gone in combinations(range(len(left)), shifted):
        kept = [h for i, h in enumerate(left) if i not in gone]
        gaps = _gaps(kept, layers)
        if len(gaps) > spares + shifted:
            continue
        for helpers in combinations(spare, spares):
            filled = _filled(gaps, [*(left[i].peer for i in gone), *helpers], layers)
            if filled is not None:
                yield tuple(sorted([*kept, *filled], key=lambda h: h.first))


def _gaps(kept: Sequence[Hold], layers: int) -> list[tuple[int, int]]:
    """The stretches of layers that nobody holds."""
    found, at = list[tuple[int, int]](), 0
    for hold in (*sorted(kept, key=lambda h: h.first), None):
        first = hold.first if hold else layers
        if first > at:
            found.append((at, first))
        at = hold.end if hold else layers
    return found


def _filled(gaps: Sequence[tuple[int, int]], peers: Sequence[Peer], layers: int) -> list[Hold] | None:
    """The gaps filled by these peers, all of them, so that the slowest is as quick as can be."""
    best: list[Hold] | None = None
    if sum(p.room.middle for p in peers) < sum(end - first for first, end in gaps):
        return None
    for places in product(range(len(gaps)), repeat=len(peers)):
        rows = [[p for p, g in zip(peers, places, strict=True) if g == gap] for gap in range(len(gaps))]
        parts = [_row(gap, row, layers) for gap, row in zip(gaps, rows, strict=True)]
        if any(part is None for part in parts):
            continue
        holds = [h for part in parts if part for h in part]
        if best is None or _slowest(tuple(holds)) < _slowest(tuple(best)):
            best = holds
    return best


def _row(gap: tuple[int, int], peers: Sequence[Peer], layers: int) -> list[Hold] | None:
    """A gap filled by these peers, the ends of the model where they lose the least room."""
    first, end = gap
    if not peers or len(peers) > end - first:
        return None
    row = _ends_placed(peers, first == 0, end == layers)
    rooms = [p.room.at(first == 0 and i == 0, end == layers and i == len(row) - 1) for i, p in enumerate(row)]
    if min(rooms) < 1 or sum(rooms) < end - first:
        return None
    holds, at = list[Hold](), first
    for peer, count in zip(row, fill(end - first, rooms, [p.speed for p in row]), strict=True):
        holds.append(Hold(peer, at, at + count))
        at += count
    return holds


def _ends_placed(peers: Sequence[Peer], first: bool, last: bool) -> list[Peer]:
    """The order that leaves the most room; few peers, so that all choices of the two ends are tried."""
    orders = [
        [peers[a], *(p for i, p in enumerate(peers) if i not in (a, b)), *([peers[b]] if a != b else [])]
        for a in range(len(peers))
        for b in range(len(peers))
        if (a == b) == (len(peers) == 1)
    ]

    def room(row: Sequence[Peer]) -> tuple[bool, int]:
        rooms = [p.room.at(first and i == 0, last and i == len(row) - 1) for i, p in enumerate(row)]
        return min(rooms) > 0, sum(rooms)

    return max(orders, key=room)
