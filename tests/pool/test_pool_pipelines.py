"""Parallax's first phase: enumeration on small pools, water-filling, rates, joining and leaving."""

from __future__ import annotations

import random
from itertools import product

import pytest
from pool_cases import fewest_stages, holds, random_peers

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Gpu
from hexdsl.costs.serving import Load
from hexdsl.passes.pool.arcs import Room
from hexdsl.passes.pool.change import join, leave, stand_in
from hexdsl.passes.pool.fill import fill
from hexdsl.passes.pool.pipelines import Hold, Peer, Pipes, plan_pipes, room_of
from hexdsl.passes.pool.rates import Class, Service, class_of, plan_rates


def check(pipes: Pipes, peers: list[Peer]) -> None:
    """Every pipeline holds every layer once within its peers' room, and every peer is somewhere once."""
    for pipe in pipes.pipes:
        edges = [0, *(h.end for h in pipe)]
        assert [h.first for h in pipe] == edges[:-1]
        assert edges[-1] == pipes.layers
        last = len(pipe) - 1
        assert all(1 <= h.end - h.first <= h.peer.room.at(i == 0, i == last) for i, h in enumerate(pipe))
    names = [h.peer.name for pipe in pipes.pipes for h in pipe] + [p.name for p in pipes.spare]
    assert sorted(names) == sorted(p.name for p in peers)


@pytest.mark.parametrize("seed", range(40))
def test_scores_are_those_of_enumeration(seed: int) -> None:
    rng = random.Random(seed)
    peers, layers = random_peers(rng, rng.randint(1, 6), 7), rng.randint(1, 9)
    fewest = fewest_stages(peers, layers)
    for score in (lambda k, s: k * k / s, lambda k, s: k**0.5 / (3 + s / k), lambda k, s: 10 * k - s):
        pipes = plan_pipes(peers, layers, score)
        check(pipes, peers)
        best = max((score(k, s) for k, s in fewest.items()), default=0.0)
        assert pipes.score == pytest.approx(best)
        assert pipes.bound == pytest.approx(best)


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_is_found_where_there_is_one(seed: int) -> None:
    rng = random.Random(1000 + seed)
    peers, layers = random_peers(rng, rng.randint(1, 24), 12, kinds=5), rng.choice((7, 21, 36, 80))
    pipes = plan_pipes(peers, layers)
    check(pipes, peers)
    able = [p for p in peers if p.room.middle]
    some = sorted(able, key=lambda p: -p.room.middle)[:layers]
    exists = any(p.room.both >= layers for p in peers) or (len(some) > 1 and holds(some, layers))
    assert exists <= bool(pipes.pipes)


def test_room_depends_on_the_place_in_the_pipeline() -> None:
    room = room_of(memory=10.0, layer=2.0, embedding=1.5, head=3.0)
    assert room == Room(5, 4, 3, 2)
    assert [room.at(a, b) for a, b in ((False, False), (True, False), (False, True), (True, True))] == [5, 4, 3, 2]
    with pytest.raises(ValueError, match="no more room"):
        Room(1, 2, 1, 1)


@pytest.mark.parametrize("seed", range(30))
def test_water_filling_is_optimal(seed: int) -> None:
    rng = random.Random(seed)
    room = [rng.randint(1, 5) for _ in range(rng.randint(1, 4))]
    speed = [rng.uniform(1, 9) for _ in room]
    layers = rng.randint(len(room), sum(room))
    times = [
        max(n / v for n, v in zip(split, speed, strict=True))
        for split in product(*(range(1, r + 1) for r in room)) if sum(split) == layers
    ]  # fmt: skip
    found = fill(layers, room, speed)
    assert sum(found) == layers
    assert max(n / v for n, v in zip(found, speed, strict=True)) == pytest.approx(min(times))


def test_water_filling_refuses_what_does_not_fit() -> None:
    for layers, room in ((5, [2, 2]), (1, [1, 1]), (1, []), (2, [2, 0])):
        with pytest.raises(ValueError, match="do not fit"):
            fill(layers, room, [1.0] * len(room))


CLASSES = (
    Class("big", 2, Room(6, 5, 5, 4), 1.0, 0.5, "eu"),
    Class("small", 4, Room(3, 3, 2, 2), 2.0, 0.5, "eu"),
    Class("far", 3, Room(6, 5, 5, 4), 1.0, 0.5, "us"),
)
DELAY = {("eu", "us"): 5.0, ("eu", "eu"): 0.1, ("us", "us"): 0.1}


def test_rates_respect_the_limit_and_the_counts() -> None:
    before = 0.0
    for limit in (8.0, 9.5, 12.0, 18.0, 40.0):
        served = plan_rates(CLASSES, Service(8, 4, 3, limit, DELAY), widest=4)
        used = [c for q in served.columns for c in q.classes]
        assert all(used.count(c) <= cls.count for c, cls in enumerate(CLASSES))
        assert all(q.token_s <= limit and sum(q.layers) == 8 for q in served.columns)
        assert before <= served.tokens_s <= served.bound + 1e-9
        assert served.complete
        before = served.tokens_s
    assert before > 0


def test_a_token_pays_every_layer_and_every_hop() -> None:
    served = plan_rates(CLASSES[1:2] + CLASSES[2:], Service(8, 1, 1, 1e9, DELAY), widest=3)
    assert sum(q.lanes for q in served.columns) == len(served.columns)
    for q in served.columns:
        classes = [(CLASSES[1], CLASSES[2])[c] for c in q.classes]
        crossing = len({c.region for c in classes}) > 1
        inside = len(classes) - (2 if crossing else 0)
        path = sum(c.layer_s * n for c, n in zip(classes, q.layers, strict=True)) + classes[-1].head_s
        assert q.token_s == pytest.approx(path + 10 * crossing + 0.1 * inside)


def test_rooms_and_times_come_from_the_cost_model() -> None:
    gpu = Gpu("A100", 80e9, 2.0e12, {"bf16": 312e12})
    arch = Arch(80, 8192, 64, 8, 128, 28672, 128256)
    cls = class_of("a", 4, gpu, arch, Load(500.0, 200.0), 8, 2)
    assert 20 <= cls.room.middle <= 45
    assert cls.room.both < cls.room.middle
    assert 0.0005 < cls.layer_s < 0.01


@pytest.mark.parametrize("seed", range(25))
def test_leaving_and_joining_keep_pipelines_whole(seed: int) -> None:
    rng = random.Random(seed)
    peers = random_peers(rng, rng.randint(4, 14), 8, kinds=4)
    pipes = plan_pipes(peers, rng.randint(5, 20))
    for peer in rng.sample(peers, len(peers) // 2):
        change = leave(pipes, peer.name)
        rest = [p for p in peers if p.name != peer.name]
        check(change.pipes, rest)
        others = [p for p in pipes.pipes if all(h.peer.name != peer.name for h in p)]
        assert set(others) <= set(change.pipes.pipes)
        back = join(change.pipes, peer)
        check(back.pipes, [*rest, peer])
        assert len(back.pipes.pipes) >= len(change.pipes.pipes)
    with pytest.raises(KeyError):
        leave(pipes, "nobody")
    with pytest.raises(ValueError, match="already"):
        join(pipes, peers[0])


def even(count: int, room: int, name: str = "p") -> list[Peer]:
    return [Peer(f"{name}{i}", Room(room, room, room, room)) for i in range(count)]


def test_a_spare_takes_the_gap_and_nobody_else_moves() -> None:
    pipes = plan_pipes(even(5, 4), 16)
    gone = pipes.pipes[0][1].peer.name
    change = leave(pipes, gone)
    assert change.moved == (pipes.spare[0].name,)
    assert len(change.pipes.pipes) == 1


def in_row(*held: tuple[str, int, int]) -> Pipes:
    """One pipeline of peers by name, room and layers held."""
    holds, at = list[Hold](), 0
    for name, room, count in held:
        holds.append(Hold(Peer(name, Room(room, room, room, room)), at, at + count))
        at += count
    return Pipes(at, (tuple(holds),), (), 1.0, 1.0)


def test_neighbours_with_room_share_the_gap() -> None:
    change = leave(in_row(("a", 6, 4), ("b", 6, 4), ("c", 6, 4), ("d", 4, 4)), "b")
    assert change.moved == ("a", "c")
    assert [(h.peer.name, h.first, h.end) for h in change.pipes.pipes[0]] == [("a", 0, 6), ("c", 6, 12), ("d", 12, 16)]


def test_a_peer_from_far_away_may_move_instead_of_all_between() -> None:
    change = leave(in_row(("a", 4, 4), ("b", 4, 4), ("c", 4, 4), ("d", 4, 4), ("e", 7, 2), ("f", 6, 4)), "b")
    assert len(change.moved) == 2
    assert "e" in change.moved


def test_a_pipeline_that_cannot_be_mended_is_given_up() -> None:
    pipes = plan_pipes(even(4, 4), 16)
    change = leave(pipes, "p2")
    assert change.pipes.pipes == ()
    assert len(change.pipes.spare) == 3
    again = join(change.pipes, Peer("new", Room(4, 4, 4, 4)))
    assert len(again.pipes.pipes) == 1


def test_a_spare_stands_in_for_the_slowest_stage() -> None:
    peers = [Peer("slow", Room(5, 5, 5, 5), 1.0), Peer("fast", Room(5, 5, 5, 5), 9.0)]
    pipes = plan_pipes(peers, 8)
    hold = stand_in(pipes, Peer("new", Room(5, 5, 5, 5), 2.0))
    slowest = max(pipes.pipes[0], key=lambda h: (h.end - h.first) / h.peer.speed)
    assert hold is not None
    assert (hold.first, hold.end) == (slowest.first, slowest.end)
    assert stand_in(pipes, Peer("tiny", Room(1, 1, 1, 1))) is None
