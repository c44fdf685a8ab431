"""Requests over chains of peers: the first peer of a chain answers; where one is lost, another chain goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from hexdsl.ir.chains import Chain
from hexdsl.runtime.api import BadRequest, ChatRequest, CompletionRequest
from hexdsl.runtime.chain_table import ChainTable
from hexdsl.runtime.events import Accepted, Event
from hexdsl.runtime.fleet import Fleet
from hexdsl.runtime.passing import OVER
from hexdsl.runtime.relaying import PAUSE, Relay

SEAT = 0.02
"""Seconds until a request that found every seat taken looks again."""


class ChainRelay(Relay):
    """One request from its acceptance to its last token.  Its peers count it as long as its chain is at work."""

    def __init__(self, fleet: Fleet, asked: CompletionRequest | ChatRequest) -> None:
        super().__init__(fleet, asked)
        self._chain: Chain = ()

    async def accept(self) -> Accepted:
        """As of every request; where all seats are taken it waits for one."""
        while True:
            try:
                return await super().accept()
            except BadRequest as refusal:
                if refusal.status not in OVER or not self._table.possible(self._table.up):
                    raise
            await asyncio.sleep(SEAT)

    async def events(self) -> AsyncIterator[Event]:
        try:
            async for event in super().events():
                yield event
        finally:
            self._leave()

    @property
    def _table(self) -> ChainTable:
        assert self._fleet.chains
        return self._fleet.chains

    async def _close(self) -> None:
        await super()._close()
        self._leave()

    async def _blame(self) -> None:
        """The peers of the chain are asked how they are; where all are well, one was full for a moment."""
        if await self._fleet.check({hop.node for hop in self._chain}):
            await asyncio.sleep(PAUSE)

    def _candidates(self) -> Iterator[str]:
        """The first peers of chains, the best first; one that did not take the request is not asked again."""
        tried: set[str] = set()
        while True:
            self._leave()
            try:
                chain = self._table.choose(tried)
            except ValueError:
                return
            self._chain = chain
            self._table.take(chain)
            tried.add(chain[0].node)
            yield chain[0].node

    def _url(self, name: str) -> str:
        return f"{self._fleet.table.replicas[name].url}/internal/chain"

    def _body(self, name: str) -> dict[str, Any]:
        holders = self._table.holders
        chain = [
            {"name": hop.node, "host": holders[hop.node].host, "port": holders[hop.node].port, "first": hop.first,
             "end": hop.end}
            for hop in self._chain
        ]  # fmt: skip
        most = {"max_tokens": self.accepted.max_tokens} if self.accepted else {}
        return {self._kind: self._asked, "resume": self._tokens, "chain": chain, **most}

    def _leave(self) -> None:
        self._table.leave(self._chain)
        self._chain = ()
