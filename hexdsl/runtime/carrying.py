"""How a request goes from one replica of our engine to another, as the one that it leaves sees it.

    POST /internal/arrivals                   the other replica finds a seat and blocks, and says where KV goes; this
                                              connection stays until the end, so that each side notices the other's
    (KV)                                      each rank to the ranks that hold the same layers and heads, over TCP
    POST /internal/arrivals/TRANSFER/begin    with the tokens to go on with; answered once all KV is there

Until `begin` is answered the request keeps its blocks here, so that it can be decoded here should nobody take it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hexdsl.runtime.api import Stop, TokenId
from hexdsl.runtime.client import CONNECT, make_client, own_key
from hexdsl.runtime.config import Bits
from hexdsl.runtime.engine import Engine
from hexdsl.runtime.events import Moved, lines_in
from hexdsl.runtime.scheduler import Sampling
from hexdsl.runtime.step import Peer
from hexdsl.runtime.transfers import Ended, Lost, Way

GRANT = 20.0
"""Seconds for another replica to find a seat and blocks."""

SHIP = 300.0
"""Seconds for the rest of a prompt to be computed and sent."""

BEGIN = 60.0
"""Seconds for the last KV to arrive."""


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Target(Message):
    """A replica that may go on with a request, and in how many bits a value its KV travels there."""

    name: str
    url: str = Field(pattern=r"^https?://")
    bits: Bits = 16


class Carried(Message):
    """A request as it travels: all that another replica needs beside KV.  `resume` is what of its answer has KV."""

    prompt: list[TokenId] = Field(min_length=1)
    resume: list[TokenId] = Field(default_factory=list)
    max_tokens: int = Field(ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = 0
    stops: list[Stop] = Field(default_factory=list, max_length=4)

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.max_tokens, self.temperature, self.top_p, self.seed)


class Granted(Message):
    """The answer to an arrival: its number, and the ranks that take KV."""

    transfer: str
    peers: tuple[Peer, ...]


_GRANTED = TypeAdapter(Granted)
KvBytes = Callable[[int, int], int]
"""Bytes of a number of tokens at so many bits a value."""


class Courier:
    """Takes requests of an engine to other replicas."""

    def __init__(self, engine: Engine, kv_bytes: KvBytes) -> None:
        self._engine, self._kv_bytes = engine, kv_bytes
        self._client = make_client()

    async def after_prefill(
        self, number: int, begun: Future[None], carried: Carried, targets: Sequence[Target]
    ) -> Moved | None:
        """Looks for a place as soon as the prompt's first step runs, so that KV travels while the rest is computed."""
        await asyncio.wrap_future(begun)
        return await self._take(number, carried, targets)

    async def at_once(self, number: int, carried: Carried, targets: Sequence[Target]) -> Moved | None:
        """Halts a request that is being decoded and takes it away.  Raises `Lost` where it has no KV yet."""
        told = await asyncio.wrap_future(self._engine.halt(number))
        return await self._take(number, carried.model_copy(update={"resume": list(told[:-1])}), targets)

    async def _take(self, number: int, carried: Carried, targets: Sequence[Target]) -> Moved | None:
        """To the first that takes it; None where nobody does, and the request goes on here."""
        for target in targets:
            try:
                return await self._to(number, carried, target)
            except Ended:
                return None
            except (Lost, httpx.HTTPError, TimeoutError, ValueError):
                self._engine.measures.handover_failures.add()
        self._engine.go_on(number)
        return None

    async def _to(self, number: int, carried: Carried, target: Target) -> Moved:
        places, timeout = f"{target.url}/internal/arrivals", httpx.Timeout(GRANT, connect=CONNECT)
        async with self._client.stream(
            "POST", places, json=carried.model_dump(), headers=own_key(), timeout=timeout
        ) as answer:
            answer.raise_for_status()
            lines = lines_in(answer.aiter_bytes())  # kept: its end would be that of the connection
            granted = _GRANTED.validate_json(await anext(lines, b""))
            way = Way(granted.transfer, granted.peers, target.bits)
            told = await asyncio.wait_for(asyncio.wrap_future(self._engine.depart(number, way)), SHIP)
            halted = time.monotonic()
            await self._begin(f"{places}/{granted.transfer}/begin", told[len(carried.resume) :])
        self._engine.cancel(number, "moved")
        self._engine.measures.handover.observe(time.monotonic() - halted)
        tokens = len(carried.prompt) + len(carried.resume)
        self._engine.measures.handover_bytes.add(self._kv_bytes(tokens, target.bits))
        return Moved(target.name, target.url, granted.transfer)

    async def _begin(self, url: str, rest: Sequence[int]) -> None:
        timeout = httpx.Timeout(BEGIN, connect=CONNECT)
        answer = await self._client.post(url, json={"tokens": rest}, headers=own_key(), timeout=timeout)
        answer.raise_for_status()
