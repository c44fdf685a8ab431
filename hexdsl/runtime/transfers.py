"""The engine's view of KV on its way: sequences that leave for another replica, and those that come from one.

Everything here happens in the engine's thread; others wait on the futures.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from hexdsl.runtime.kv_wire import Word
from hexdsl.runtime.scheduler import Sequence, Work
from hexdsl.runtime.step import Close, Move, Open, Peer, Send

T = TypeVar("T")


class Lost(Exception):
    """A transfer broke, or there is nothing to transfer."""


class Ended(Lost):
    """The request of a transfer ended."""


@dataclass(frozen=True, slots=True)
class Way:
    """The number of a transfer at the replica that takes it, that replica's ranks, and the bits of a value."""

    transfer: str
    peers: tuple[Peer, ...]
    bits: int


@dataclass(slots=True, eq=False)
class Departure:
    """A sequence on its way out.

    `sent` positions have left, -1 before anybody was told of it.  `shipped` gets the answer's tokens so far once all
    that is known has left.
    """

    sequence: Sequence
    way: Way
    sent: int = -1
    shipped: Future[tuple[int, ...]] = field(default_factory=Future)

    @property
    def complete(self) -> bool:
        """Whether the sequence stands still and only its last token's KV is missing, which nobody has computed."""
        s = self.sequence
        return s.parked and not s.in_flight and self.sent == s.computed == len(s.tokens) - 1


@dataclass(slots=True, eq=False)
class Arrival:
    """A sequence whose KV comes from elsewhere.

    `granted` once it has its seat and blocks; `live` once every rank has its part and the tokens to go on with are
    known.  Both fail with `Lost`.
    """

    sequence: Sequence
    ranks: set[int]
    transfer: str = field(default_factory=lambda: secrets.token_hex(16))
    positions: int = 0
    rest: tuple[int, ...] = ()
    granted: Future[None] = field(default_factory=Future)
    live: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.positions = len(self.sequence.tokens)
        self.sequence.parked = True


class Transfers:
    """All departures by request, all arrivals by transfer, and the moves that the next step takes along."""

    def __init__(self, world: int) -> None:
        self._world = world
        self.departures: dict[int, Departure] = {}
        self.arrivals: dict[str, Arrival] = {}
        self._closes: list[Close] = []

    def arrival(self, sequence: Sequence) -> Arrival:
        """Of a sequence that nothing is known of yet; to be given to `expect`."""
        return Arrival(sequence, set(range(self._world)))

    def expect(self, arrival: Arrival) -> None:
        self.arrivals[arrival.transfer] = arrival

    def depart(self, departure: Departure) -> None:
        self.recall(departure.sequence.id, Lost("it goes elsewhere"))
        self.departures[departure.sequence.id] = departure

    def recall(self, request: int, why: Lost) -> None:
        """The request goes nowhere any more."""
        if departure := self.departures.pop(request, None):
            self._closes.append(Close(departure.way.transfer))
            fail(departure.shipped, why)

    def forget(self, sequence: Sequence) -> None:
        """The sequence ends: whatever is on its way for it stops.  Called before its blocks are given back."""
        self.recall(sequence.id, Ended())
        for arrival in [a for a in self.arrivals.values() if a.sequence is sequence]:
            self._close(arrival)
            fail(arrival.granted, Ended())
            fail(arrival.live, Ended())

    def take_moves(self, work: Work) -> tuple[Move, ...]:
        """What the next step takes along beside its work."""
        closes, self._closes = self._closes, []
        return (*closes, *self._opens(), *self._sends({s.id: chunk.positions.stop for s, chunk in work}))

    def settle(self) -> None:
        """Tells whose KV has left completely."""
        for departure in self.departures.values():
            if departure.complete:
                resolve(departure.shipped, tuple(departure.sequence.tokens[len(departure.sequence.prompt) :]))

    def hear(self, transfer: str, word: Word, rank: int) -> Arrival | None:
        """A rank's word about a transfer.  The arrival that is complete by it, or none."""
        arrival = self.arrivals.get(transfer)
        if word == "broken":
            self._break(transfer, arrival)
            return None
        if arrival is None:
            return None
        arrival.ranks.discard(rank)
        return arrival if self._complete(arrival) else None

    def begin(self, arrival: Arrival, rest: tuple[int, ...]) -> bool:
        """The tokens after the positions that come.  Whether the arrival is complete by it."""
        arrival.rest = rest
        return self._complete(arrival)

    def go_live(self, arrival: Arrival) -> None:
        """The sequence may be computed further."""
        self._close(arrival)
        sequence = arrival.sequence
        sequence.tokens += arrival.rest
        sequence.computed, sequence.parked = arrival.positions, False
        resolve(arrival.live, None)

    def _complete(self, arrival: Arrival) -> bool:
        return not arrival.ranks and bool(arrival.rest) and arrival.transfer in self.arrivals

    def _break(self, transfer: str, arrival: Arrival | None) -> None:
        for departure in self.departures.values():
            if departure.way.transfer == transfer:
                fail(departure.shipped, Lost("the connection to the other replica broke"))
        if arrival:
            fail(arrival.live, Lost("the connection from the other replica broke"))

    def _close(self, arrival: Arrival) -> None:
        del self.arrivals[arrival.transfer]
        self._closes.append(Close(arrival.transfer))

    def _opens(self) -> Iterator[Open]:
        for arrival in self.arrivals.values():
            if arrival.sequence.blocks and not arrival.granted.done():
                yield Open(arrival.transfer, tuple(arrival.sequence.blocks), arrival.positions)
                resolve(arrival.granted, None)

    def _sends(self, ends: dict[int, int]) -> Iterator[Send]:
        """`ends` tells how far the sequences of the step will be computed by it."""
        for departure in self.departures.values():
            sequence, way = departure.sequence, departure.way
            end = ends.get(sequence.id, 0 if sequence.in_flight else sequence.computed)
            if end > departure.sent:
                yield Send(way.transfer, tuple(sequence.blocks), max(0, departure.sent), end, way.peers, way.bits)
                departure.sent = end


def resolve(future: Future[T], value: T) -> None:
    """Sets a result that nobody may want any more."""
    with suppress(InvalidStateError):
        future.set_result(value)


def fail(future: Future[T], why: Lost) -> None:
    with suppress(InvalidStateError):
        future.set_exception(why)
