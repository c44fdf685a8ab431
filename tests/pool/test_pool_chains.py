"""Chains: every layer paid for, weights kept, queues heeded, and load that balances."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest

from hexdsl.ir.chains import Chain, Hop, Row, Turns, Weighted, chains_of, cheapest
from hexdsl.passes.pool.flow import max_flow
from hexdsl.passes.pool.kinds import Holder
from hexdsl.passes.pool.play import Asked, Pace, Played, play


def test_layers_are_paid_one_by_one() -> None:
    """A router that adds up per-layer latencies once a node would take x, which is slower."""
    rows = (Row("x", 0, 40, 1.0), Row("y", 0, 20, 0.6), Row("z", 20, 40, 0.6))
    chain, seconds = cheapest(rows, 40, np.full((3, 3), 10.0))
    assert [h.node for h in chain] == ["y", "z"]
    assert seconds == pytest.approx(34.0)
    loaded, _ = cheapest(rows, 40, np.full((3, 3), 10.0), np.array([1.0, 3.0, 1.0]))
    assert [h.node for h in loaded] == ["x"]


@pytest.mark.parametrize("seed", range(20))
def test_the_cheapest_chain_is_that_of_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = 5
    rows = []
    for i in range(5):
        first = int(rng.integers(0, layers))
        rows.append(Row(f"n{i}", first, int(rng.integers(first + 1, layers + 1)), float(rng.uniform(0.5, 2))))
    rtt = rng.uniform(0, 1.5, (5, 5))
    np.fill_diagonal(rtt, 0)
    best = np.inf
    for nodes in product(range(5), repeat=layers):
        if all(rows[n].first <= layer < rows[n].end for layer, n in enumerate(nodes)):
            hops = sum(rtt[a, b] for a, b in pairwise(nodes))
            best = min(best, sum(rows[n].layer_s for n in nodes) + hops)
    if not np.isfinite(best):
        with pytest.raises(ValueError, match="no chain"):
            cheapest(rows, layers, rtt)
        return
    chain, seconds = cheapest(rows, layers, rtt)
    assert seconds == pytest.approx(best)
    assert [h.first for h in chain] == [0, *(h.end for h in chain[:-1])]
    assert chain[-1].end == layers


def test_full_nodes_are_not_taken() -> None:
    rows = (Row("a", 0, 2, 1.0), Row("b", 0, 2, 5.0))
    chain, _ = cheapest(rows, 2, np.zeros((2, 2)), np.array([np.inf, 1.0]))
    assert chain == (Hop("b", 0, 2),)


@pytest.mark.parametrize("seed", range(10))
def test_a_flow_comes_apart_into_chains_that_make_it_up(seed: int) -> None:
    rng = random.Random(seed)
    holders = [
        Holder(f"{stage}-{i}", 2 * stage, 2 * stage + 2, rng.uniform(1, 9)) for stage in range(4) for i in range(3)
    ]
    flow = max_flow(holders, 8)
    chains = chains_of({h.name: (h.first, h.end) for h in holders}, flow.through)
    assert sum(c.weight for c in chains) == pytest.approx(flow.value)
    load: Counter[str] = Counter()
    for weighted in chains:
        assert [h.first for h in weighted.chain] == [0, 2, 4, 6]
        for hop in weighted.chain:
            load[hop.node] += weighted.weight  # type: ignore[assignment]
    assert all(load[h.name] <= h.rate * (1 + 1e-6) for h in holders)


def test_turns_keep_weights_whatever_the_queues() -> None:
    chains = [Weighted((Hop(n, 0, 1),), w) for n, w in (("a", 3.0), ("b", 2.0), ("c", 1.0))]
    for slack in (0.0, 2.0):
        turns, count = Turns(chains, slack), Counter[str]()
        for i in range(1, 601):
            count[turns.next(lambda node: 9.0 if node == "a" else 0.0)[0].node] += 1
            for chain in chains:
                behind = i * chain.weight / 6 - count[chain.chain[0].node]
                assert behind <= slack + 1 + 1e-6
    with pytest.raises(ValueError, match="no chains"):
        Turns([])


def test_turns_avoid_a_long_queue_for_a_while() -> None:
    turns = Turns([Weighted((Hop(n, 0, 1),), 1.0) for n in "ab"], slack=3.0)
    first = [turns.next(lambda node: float(node == "a"))[0].node for _ in range(3)]
    assert first == ["b", "b", "b"]


STAGES = [("x0", 0, 4), ("x1", 4, 8), ("y0", 0, 4), ("y1", 4, 8)]
PACES = {n: Pace(1e-3 * (1.0 if n[0] == "x" else 1.05), 2e-4, 2e-5) for n, _, _ in STAGES}
ROWS = [Row(n, a, b, PACES[n].base_s) for n, a, b in STAGES]


def crowd(count: int) -> list[Asked]:
    rng = np.random.default_rng(0)
    at = np.cumsum(rng.exponential(0.02, count))
    return [Asked(float(t), int(rng.integers(20, 200)), int(rng.integers(10, 60))) for t in at]


def spread(played: Played) -> float:
    busy = list(played.busy_s.values())
    return max(busy) / (sum(busy) / len(busy))


def always_cheapest(queue: object) -> Chain:
    """What a router does that looks at idle latencies only: everything on the x nodes."""
    return cheapest(ROWS, 8, np.zeros((4, 4)))[0]


def test_load_balances_under_turns_and_not_on_the_shortest_path() -> None:
    asked = crowd(300)
    holders = [Holder(n, a, b, 1 / PACES[n].base_s) for n, a, b in STAGES]
    chains = chains_of({n: (a, b) for n, a, b in STAGES}, max_flow(holders, 8).through)
    herd, fair = play(asked, PACES, always_cheapest), play(asked, PACES, Turns(chains).next)
    assert spread(herd) > 1.9
    assert spread(fair) < 1.15
    assert fair.token_s.mean() < herd.token_s.mean()
    assert fair.tokens == herd.tokens == sum(a.output for a in asked)


def test_a_lone_request_takes_its_path() -> None:
    chain = (Hop("x0", 0, 4), Hop("x1", 4, 8))
    played = play([Asked(1.0, 10, 3)], PACES, lambda queue: chain, lambda a, b: 0.5)
    prompt = 8 * (1e-3 + 10 * 2e-5) + 0.5
    token = 8 * (1e-3 + 2e-4) + 2 * 0.5
    assert played.first_s[0] == pytest.approx(prompt)
    assert played.token_s[0] == pytest.approx(token)
    assert played.end_s == pytest.approx(1 + prompt + 2 * token)


def test_seats_bound_what_runs_at_once() -> None:
    asked = [Asked(0.0, 10, 5)] * 4
    chain = (Hop("x0", 0, 8),)
    one, all_ = (play(asked, PACES, lambda queue: chain, seats=s) for s in (1, 4))
    assert one.end_s > all_.end_s
    assert one.token_s.max() < all_.token_s.max()
