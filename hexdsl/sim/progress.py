"""How far a simulation has come, told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hexdsl.sim.request import Action, Outcome, Request, Source

EVERY = 50
"""Ended requests between two messages."""

Tell = Callable[[int], None]


class Watched:
    """A source that says how many of its requests have ended; it costs a call a request and nothing per step."""

    def __init__(self, source: Source, tell: Tell) -> None:
        self._source, self._tell, self._ended = source, tell, 0

    def start(self) -> Iterable[Request]:
        return self._source.start()

    def ended(self, outcome: Outcome) -> Iterable[Action]:
        self._ended += 1
        if self._ended % EVERY == 0:
            self._tell(self._ended)
        return self._source.ended(outcome)

    def woken(self, now_s: float) -> Iterable[Action]:
        return self._source.woken(now_s)
