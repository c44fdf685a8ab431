"""What enters the simulator and what comes back: requests, their outcomes, and the sources that submit them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model.  `output` is its true answer length, which only the simulated model knows.

    `blocks` names the consecutive pieces of `block_tokens` tokens of which the sequence consists, the prompt first:
    equal ids mean equal tokens after an equal prefix, so that their KV cache can be shared.  Ids beyond the prompt name
    pieces of the answer.  A lower `priority` goes first.  `pin` names the replica, or the model, that must serve it.
    """

    id: int
    arrival_s: float
    prompt: int
    output: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = 512
    priority: int = 0
    klass: str = ""
    pin: str = ""


class Status(IntEnum):
    """How a request ended.  `unfinished`: the simulation stopped first."""

    unfinished = 0
    finished = 1
    rejected = 2
    failed = 3
    cancelled = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a request, as its source is told."""

    request: Request
    status: Status
    time_s: float
    first_token_s: float
    generated: int
    replica: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The source no longer wants this request."""

    id: int


@dataclass(frozen=True, slots=True)
class Wake:
    """The source wants to be called at this time."""

    at_s: float


Action = Request | Cancel | Wake
"""What a source may ask for: a request (whose arrival may lie ahead), a cancellation, a call at a later time."""


class Source(Protocol):
    """Where requests come from.  Workflows (stages, joins, loops, cascades, branches) are sources and nothing else.

    `start` yields requests in the order of their arrival, lazily if it likes; `ended` and `woken` react.
    """

    def start(self) -> Iterable[Request]: ...

    def ended(self, outcome: Outcome) -> Iterable[Action]: ...

    def woken(self, now_s: float) -> Iterable[Action]: ...


@dataclass(frozen=True, slots=True)
class Replay:
    """An open loop: requests come when they come."""

    requests: Sequence[Request]

    def start(self) -> Iterable[Request]:
        return self.requests

    def ended(self, outcome: Outcome) -> Iterable[Action]:
        return ()

    def woken(self, now_s: float) -> Iterable[Action]:
        return ()


class ClosedLoop:
    """So many clients, each of which sends its next request as soon as the last one has ended."""

    def __init__(self, requests: Iterable[Request], clients: int) -> None:
        if clients < 1:
            raise ValueError("a closed loop needs at least one client")
        self._left: Iterator[Request] = iter(requests)
        self._clients = clients

    def start(self) -> Iterable[Request]:
        for request in self._next(self._clients):
            yield replace(request, arrival_s=0.0)

    def ended(self, outcome: Outcome) -> Iterable[Action]:
        return tuple(replace(r, arrival_s=outcome.time_s) for r in self._next(1))

    def woken(self, now_s: float) -> Iterable[Action]:
        return ()

    def _next(self, count: int) -> Iterator[Request]:
        for _, request in zip(range(count), self._left, strict=False):
            yield request
