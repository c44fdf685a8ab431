"""Requests played through a pool: nodes that work in batches, chains chosen by a policy, latencies and balance.

A node takes whatever waits (up to `budget` tokens) as one step of
    layers * (base + slope * tokens) seconds,    prompts pay `prompt_s` a token and layer instead of the slope.
A request sends its prompt down its chain, then one token after the other until its answer is complete; each token goes
from the last node back to the first.  KV caches are taken to fit: callers bound the requests at once with `seats`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from hexdsl.ir.chains import Chain, Floats


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of one layer: a step's fixed part, what each decoded token adds, and what each prompt token adds."""

    base_s: float
    slope_s: float
    prompt_s: float


class Asked(NamedTuple):
    """A request: when it comes, and its tokens."""

    at_s: float
    prompt: int
    output: int


@dataclass(frozen=True)
class Played:
    """Seconds of each finished request's prompt pass and (mean) decode pass; work by node; when all had ended."""

    first_s: Floats
    token_s: Floats
    busy_s: Mapping[str, float]
    end_s: float
    tokens: int

    @property
    def tokens_s(self) -> float:
        return self.tokens / self.end_s if self.end_s else 0.0


Policy = Callable[[Callable[[str], float]], Chain]
"""Chooses a chain; is given the tokens that wait at a node, or are at work there."""


@dataclass(eq=False)
class _Request:
    asked: Asked
    chain: Chain = ()
    hop: int = 0
    left: int = 0
    start_s: float = 0.0
    first_s: float = 0.0

    @property
    def tokens(self) -> int:
        return self.asked.prompt if self.left == self.asked.output else 1


@dataclass(eq=False)
class _Node:
    pace: Pace
    waiting: deque[_Request] = field(default_factory=deque)
    running: list[_Request] = field(default_factory=list)
    load: float = 0.0
    busy_s: float = 0.0


class Play:
    """One run; see `play`."""

    def __init__(
        self, paces: Mapping[str, Pace], policy: Policy, hop_s: Callable[[str, str], float], seats: int, budget: int
    ) -> None:
        self._nodes = {name: _Node(pace) for name, pace in paces.items()}
        self._policy, self._hop_s, self._seats, self._budget = policy, hop_s, seats, budget
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = self._inside = self._tokens = 0
        self._queue: deque[_Request] = deque()
        self._done: list[_Request] = []
        self._ends: list[float] = []
        self._now = 0.0

    def run(self, asked: Sequence[Asked]) -> Played:
        for one in asked:
            self._at(one.at_s, self._arrive, _Request(one))
        while self._events:
            self._now, _, act, what = heappop(self._events)
            act(*what)
        first = np.array([r.first_s - r.asked.at_s for r in self._done])
        token = np.array(
            [(e - r.first_s) / max(1, r.asked.output - 1) for r, e in zip(self._done, self._ends, strict=True)]
        )
        return Played(first, token, {n: node.busy_s for n, node in self._nodes.items()}, self._now, self._tokens)

    def _arrive(self, request: _Request) -> None:
        self._queue.append(request)
        self._admit()

    def _admit(self) -> None:
        while self._queue and self._inside < self._seats:
            request = self._queue.popleft()
            request.chain = self._policy(lambda name: self._nodes[name].load)
            request.left, request.start_s = request.asked.output, self._now
            for hop in request.chain:
                self._nodes[hop.node].load += 1
            self._inside += 1
            self._reach(request)

    def _reach(self, request: _Request) -> None:
        name = request.chain[request.hop].node
        self._nodes[name].waiting.append(request)
        self._start(name)

    def _start(self, name: str) -> None:
        node = self._nodes[name]
        if node.running or not node.waiting:
            return
        tokens = 0
        while node.waiting and (not node.running or tokens + node.waiting[0].tokens <= self._budget):
            tokens += node.waiting[0].tokens
            node.running.append(node.waiting.popleft())
        seconds = self._seconds(node)
        node.busy_s += seconds
        self._at(self._now + seconds, self._ended, name)

    def _seconds(self, node: _Node) -> float:
        """A step lasts its base for the most layers in it, and what each token adds for its own layers."""
        most, more = 0, 0.0
        for request in node.running:
            hop = request.chain[request.hop]
            layers, tokens = hop.end - hop.first, request.tokens
            most = max(most, layers)
            more += layers * tokens * (node.pace.slope_s if tokens == 1 else node.pace.prompt_s)
        return most * node.pace.base_s + more

    def _ended(self, name: str) -> None:
        node = self._nodes[name]
        done, node.running = node.running, []
        for request in done:
            self._go_on(request, name)
        self._start(name)

    def _go_on(self, request: _Request, name: str) -> None:
        request.hop += 1
        if request.hop == len(request.chain):
            request.hop = 0
            if self._token(request):
                return
        following = request.chain[request.hop].node
        self._at(self._now + self._hop_s(name, following), self._reach, request)

    def _token(self, request: _Request) -> bool:
        """Counts a token; whether it was the last."""
        self._tokens += 1
        if request.left == request.asked.output:
            request.first_s = self._now
        request.left -= 1
        if request.left:
            return False
        for hop in request.chain:
            self._nodes[hop.node].load -= 1
        self._inside -= 1
        self._done.append(request)
        self._ends.append(self._now)
        self._admit()
        return True

    def _at(self, at_s: float, act: Callable[..., None], *what: object) -> None:
        self._count += 1
        heappush(self._events, (at_s, self._count, act, what))


def play(
    asked: Sequence[Asked],
    paces: Mapping[str, Pace],
    policy: Policy,
    hop_s: Callable[[str, str], float] = lambda a, b: 0.0,
    seats: int = 1 << 30,
    budget: int = 4096,
) -> Played:
    """Plays requests until all have ended; the same inputs give the same result.

    `hop_s` are the seconds between two nodes, `seats` the requests that run at once, `budget` the tokens of a step.
    """
    return Play(paces, policy, hop_s, seats, budget).run(asked)
