"""Random pools, and slow searches that the planners are compared with."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, product

from hexdsl.passes.pool.arcs import Room
from hexdsl.passes.pool.flow import max_flow
from hexdsl.passes.pool.kinds import Holder, Kind
from hexdsl.passes.pool.pipelines import Peer


def falling(rng: random.Random, name: str, count: int, most: int, region: str = "") -> Kind:
    """Nodes whose rate falls with the layers."""
    speed = rng.uniform(20, 200)
    return Kind(
        name, count, tuple(round(speed / n * rng.uniform(0.8, 1.0) ** n, 3) for n in range(1, most + 1)), region
    )


def bumpy(rng: random.Random, name: str, count: int, most: int) -> Kind:
    """Nodes whose measured rates rise at places."""
    return Kind(name, count, tuple(round(rng.uniform(10, 100), 3) for _ in range(most)))


def best_line_flow(kinds: Sequence[Kind], layers: int) -> float:
    """The best flow of one pipeline of whole stages, by trying every row of stage lengths and every share of nodes."""
    best = 0.0
    for lengths in _compositions(layers, max(len(k.rates) for k in kinds)):
        shares = [list(_shares(k.count, len(lengths))) for k in kinds]
        for chosen in product(*shares):
            rates = [
                sum(n[i] * _rate(k, length) for k, n in zip(kinds, chosen, strict=True))
                for i, length in enumerate(lengths)
            ]
            best = max(best, min(rates))
    return best


def _rate(kind: Kind, length: int) -> float:
    return kind.rates[length - 1] if length <= len(kind.rates) else 0.0


def _compositions(layers: int, most: int) -> Iterator[tuple[int, ...]]:
    """Stage lengths that add up, in falling order: the order of stages does not matter."""

    def grow(left: int, top: int) -> Iterator[tuple[int, ...]]:
        if left == 0:
            yield ()
        for n in range(min(left, top), 0, -1):
            yield from ((n, *rest) for rest in grow(left - n, n))

    yield from grow(layers, most)


def _shares(count: int, stages: int) -> Iterator[tuple[int, ...]]:
    """How many nodes of a kind each stage gets; none are left out, since more never hurts."""
    if stages == 1:
        yield (count,)
        return
    for n in range(count + 1):
        yield from ((n, *rest) for rest in _shares(count - n, stages - 1))


def best_placement_flow(kinds: Sequence[Kind], layers: int) -> float:
    """The largest maximum flow over every placement of every node."""
    options = []
    for kind in kinds:
        spans = [(a, a + n) for n in range(1, min(len(kind.rates), layers) + 1) for a in range(layers - n + 1)]
        options.append(list(combinations_with_replacement(spans, kind.count)))
    return max(max_flow(_placed(kinds, chosen), layers).value for chosen in product(*options))


def _placed(kinds: Sequence[Kind], chosen: Sequence[Sequence[tuple[int, int]]]) -> list[Holder]:
    return [
        Holder(f"{k.name}-{i}", a, b, k.rates[b - a - 1]) for k, spans in zip(kinds, chosen, strict=True)
        for i, (a, b) in enumerate(spans)
    ]  # fmt: skip


def random_room(rng: random.Random, most: int) -> Room:
    middle = rng.randint(0, most)
    first, last = (max(0, middle - rng.randint(0, 2)) for _ in range(2))
    return Room(middle, first, last, max(0, min(first, last) - rng.randint(0, 1)))


def random_peers(rng: random.Random, count: int, most: int, kinds: int = 3) -> list[Peer]:
    rooms = [(random_room(rng, most), rng.choice((1.0, 2.0, 3.5))) for _ in range(kinds)]
    return [Peer(f"p{i}", *rng.choice(rooms)) for i in range(count)]


def fewest_stages(peers: Sequence[Peer], layers: int) -> dict[int, int]:
    """The fewest nodes of k pipelines, for each k: nodes are dealt out to pipelines in every way (up to 8 or so)."""
    best: dict[int, int] = {}

    def deal(i: int, groups: list[list[Peer]]) -> None:
        if i == len(peers):
            if groups and all(holds(g, layers) for g in groups):
                size = sum(map(len, groups))
                best[len(groups)] = min(size, best.get(len(groups), size))
            return
        deal(i + 1, groups)
        for group in groups:
            group.append(peers[i])
            deal(i + 1, groups)
            group.pop()
        groups.append([peers[i]])
        deal(i + 1, groups)
        groups.pop()

    deal(0, [])
    return best


def holds(group: Sequence[Peer], layers: int) -> bool:
    """Whether these peers, all of them, can hold the model in some order."""
    rooms = [p.room for p in group]
    if len(rooms) == 1:
        return rooms[0].both >= layers
    if len(rooms) > layers or min(r.middle for r in rooms) < 1:
        return False
    total = sum(r.middle for r in rooms)
    return any(
        rooms[a].first and rooms[b].last
        and total - rooms[a].middle + rooms[a].first - rooms[b].middle + rooms[b].last >= layers
        for a in range(len(rooms)) for b in range(len(rooms)) if a != b
    )  # fmt: skip
