"""The engine's side of a handover, over a rank that computes nothing: who halts when, and what is given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from runtime_harness import until
from test_engine import Rank, make

from hexdsl.runtime.engine import Engine
from hexdsl.runtime.events import Event
from hexdsl.runtime.scheduler import Sampling
from hexdsl.runtime.step import Close, Move, Open, Peer, Send
from hexdsl.runtime.transfers import Ended, Lost, Way

WAY = Way("there", (Peer("127.0.0.1", 1, (0, 4), (0, 2)),), 16)
PROMPT = list(range(65, 65 + 20))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[Engine, Rank]]:
    """Two stages, blocks of 16 tokens, 16 tokens a step, and some time for each."""
    made, rank = make(tmp_path, prefill_chunk_tokens=16, max_batch=2, max_queue=1)
    collect = rank.pipe.collect

    def slowly(count: int) -> list[int]:
        time.sleep(0.003)
        return collect(count)

    rank.pipe.collect = slowly  # type: ignore[method-assign]
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made, rank
    made.stop()
    thread.join(10)
    assert made.scheduler.pool.used == 0
    assert not made.transfers.departures
    assert not made.transfers.arrivals


def moves(rank: Rank) -> list[Move]:
    return [move for step in rank.pipe.steps for move in step.moves]


def test_kv_leaves_chunk_by_chunk_and_the_request_halts_after_one_token(engine: tuple[Engine, Rank]) -> None:
    made, rank = engine
    told: list[Event] = []
    begun: Future[None] = Future()
    number = made.submit(PROMPT, Sampling(9), [], told.append, begun=begun)
    shipped = made.depart(number, WAY)
    begun.result(10)
    assert shipped.result(10) == (65,)
    sent = [(move.start, move.end) for move in moves(rank) if isinstance(move, Send)]
    assert sent[-1][1] == len(PROMPT)
    assert [start for start, _ in sent if start] == [end for _, end in sent[:-1] if end]
    assert [event.token for event in told] == [65]
    assert made.scheduler.pool.used == 2
    made.cancel(number, "moved")
    assert until(lambda: moves(rank)[-1] == Close("there"), 5)


def test_a_request_that_nobody_takes_goes_on_here(engine: tuple[Engine, Rank]) -> None:
    made, rank = engine
    told: list[Event] = []
    number = made.submit(PROMPT, Sampling(9), [], told.append, begun=Future())
    made.depart(number, WAY).result(10)
    made.heard("there", "broken", 0)
    made.go_on(number)
    assert until(lambda: bool(told) and told[-1].finish == "length", 10)
    assert [event.tokens for event in told] == list(range(1, 10))
    assert Close("there") in moves(rank)


def test_a_leaving_request_holds_no_seat(engine: tuple[Engine, Rank]) -> None:
    made, _ = engine
    numbers = [made.submit([1, 2], Sampling(5), [], lambda _: None, begun=Future()) for _ in range(2)]
    assert until(lambda: made.scheduler.leavings() == 2, 10)
    told: list[Event] = []
    made.submit([1, 2], Sampling(3), [], told.append)
    assert until(lambda: bool(told) and told[-1].last, 10)
    for number in numbers:
        made.cancel(number)


def test_a_running_request_halts_and_the_rest_of_its_answer_stays_whole(engine: tuple[Engine, Rank]) -> None:
    made, _ = engine
    told: list[Event] = []
    number = made.submit(PROMPT, Sampling(900), [], told.append)
    assert until(lambda: len(told) > 3, 10)
    so_far = made.halt(number).result(10)
    assert made.depart(number, WAY).result(10) == so_far
    made.go_on(number)
    assert until(lambda: len(told) > len(so_far), 10)
    made.cancel(number)
    assert [event.tokens for event in told] == list(range(1, len(told) + 1))


def test_what_has_no_kv_or_has_ended_cannot_leave(engine: tuple[Engine, Rank]) -> None:
    made, _ = engine
    running = [made.submit([1], Sampling(500), [], lambda _: None) for _ in range(2)]
    waiting = made.submit([1], Sampling(5), [], lambda _: None)
    with pytest.raises(Lost):
        made.halt(waiting).result(10)
    for number in (*running, waiting):
        made.cancel(number)
    with pytest.raises(Ended):
        made.depart(waiting, WAY).result(10)


def test_an_arrival_decodes_once_every_rank_has_its_kv(engine: tuple[Engine, Rank]) -> None:
    made, rank = engine
    told: list[Event] = []
    arrival = made.arrive(PROMPT, Sampling(5), [], told.append, [66])
    arrival.granted.result(10)
    (opened,) = moves(rank)
    assert opened == Open(arrival.transfer, opened.blocks, 21)  # type: ignore[union-attr]
    made.begin(arrival, [67])
    made.heard(arrival.transfer, "done", 0)
    made.heard("another", "done", 1)
    assert not told
    assert not arrival.live.done()
    made.heard(arrival.transfer, "done", 1)
    arrival.live.result(10)
    assert until(lambda: bool(told) and told[-1].finish == "length", 10)
    assert [event.tokens for event in told] == [3, 4, 5]
    first = next(chunk for step in rank.pipe.steps for chunk in step.chunks)
    assert (first.tokens, first.start) == ((67,), 21)


def test_an_arrival_that_breaks_or_is_given_up_leaves_nothing(engine: tuple[Engine, Rank]) -> None:
    made, rank = engine
    for broken in (True, False):
        arrival = made.arrive(PROMPT, Sampling(5), [], lambda _: None, [])
        arrival.granted.result(10)
        if broken:
            made.heard(arrival.transfer, "broken", 1)
        else:
            made.cancel(arrival.sequence.id)
        with pytest.raises(Lost):
            arrival.live.result(10)
        made.cancel(arrival.sequence.id)
    assert until(lambda: sum(isinstance(move, Close) for move in moves(rank)) == 2, 5)


def test_an_arrival_waits_for_a_seat(engine: tuple[Engine, Rank]) -> None:
    made, _ = engine
    running = [made.submit([1], Sampling(500), [], lambda _: None) for _ in range(2)]
    assert until(lambda: made.scheduler.seated == 2, 10)
    arrival = made.arrive(PROMPT, Sampling(5), [], lambda _: None, [])
    assert until(lambda: made.scheduler.decodes() == 1, 10)
    assert not arrival.granted.done()
    made.cancel(running[0])
    arrival.granted.result(10)
    made.cancel(running[1])
    made.cancel(arrival.sequence.id)


def test_a_resumed_answer_goes_on_with_its_next_token(engine: tuple[Engine, Rank]) -> None:
    made, rank = engine
    told: list[Event] = []
    made.submit(PROMPT, Sampling(6), ["AAAA"], told.append, resume=[65, 65])
    assert until(lambda: bool(told) and told[-1].last, 10)
    assert [(event.tokens, event.finish) for event in told] == [(3, None), (4, "stop")]
    draws = [draw for step in rank.pipe.steps for draw in step.draws]
    assert [draw.index for draw in draws] == [2, 3]
