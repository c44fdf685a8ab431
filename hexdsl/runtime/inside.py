"""What a replica offers to the router and to other replicas, beside OpenAI's API.

    POST /internal/generate                     a request; its events as lines
    GET  /internal/arrivals/TRANSFER            the same of a request that came from another replica
    POST /internal/arrivals...                  how it comes: see `carrying`
    POST /internal/leave                        every request goes to another replica, as far as one takes it
    POST /internal/role                         another half of the work, with other limits

Lines are those of `events`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hexdsl.runtime.api import BadRequest, ChatRequest, CompletionRequest, TokenId, parse
from hexdsl.runtime.carrying import Carried, Courier, KvBytes, Message, Target
from hexdsl.runtime.config import Limits, Role
from hexdsl.runtime.events import Accepted, Event, Moved, line_of
from hexdsl.runtime.server import EventStream, Replica, Ticket
from hexdsl.runtime.step import Peer
from hexdsl.runtime.transfers import Arrival, Lost
from hexdsl.runtime.web import read_body, unless_gone

EXPIRE = 300.0
"""Seconds from a grant until all KV must have come."""

ATTACH = 15.0
"""Seconds from then until somebody must ask for the answer."""

SMALL = 1 << 16
LINES = "application/x-ndjson"


class Generate(Message):
    """A request of a client, one of the two; `resume` are tokens of its answer that the client has.

    `targets` may decode it, in the order in which they are tried; without them it is decoded here.
    """

    completion: CompletionRequest | None = None
    chat: ChatRequest | None = None
    resume: list[TokenId] = Field(default_factory=list)
    max_tokens: int | None = Field(None, ge=1)
    targets: list[Target] = Field(default_factory=list, max_length=64)


class Begin(Message):
    tokens: list[TokenId] = Field(min_length=1)


class Leave(Message):
    """Where requests may go; with `everything`, those without KV are given back for another replica to begin again."""

    targets: list[Target]
    everything: bool = False


class Become(Message):
    """A role, and limits where they change."""

    role: Role
    max_batch: int | None = Field(None, ge=1)
    step_tokens: int | None = Field(None, ge=1)


@dataclass(eq=False)
class Stream:
    """A request that somebody follows; it may leave for another replica while they do."""

    ticket: Ticket
    carried: Carried
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def start(self, way: Coroutine[Any, Any, Moved | None], *, give_back: bool = False) -> None:
        """Begins to leave, unless it does already."""
        if self._task and not self._task.done():
            way.close()
        else:
            self._task = asyncio.create_task(self._leave(way, give_back))

    def close(self) -> None:
        if self._task:
            self._task.cancel()
        self.ticket.close()

    async def lines(self) -> AsyncIterator[str]:
        yield line_of(Accepted(len(self.carried.prompt), self.carried.max_tokens))
        async for event in self.ticket.events():
            yield line_of(event)

    async def _leave(self, way: Coroutine[Any, Any, Moved | None], give_back: bool) -> None:
        moved = None
        with suppress(Lost):
            moved = await way
        if moved:
            self.ticket.arrived.put_nowait(Event(moved=moved))
        elif give_back:
            self.ticket.arrived.put_nowait(Event(error="this replica is being emptied"))


class Inside:
    """The handlers, the requests that are followed, and those that have come and wait to be."""

    def __init__(self, replica: Replica, peers: Sequence[Peer], kv_bytes: KvBytes) -> None:
        self._replica, self._engine, self._peers = replica, replica.engine, tuple(peers)
        self.courier = Courier(replica.engine, kv_bytes)
        self._streams: set[Stream] = set()
        self._arrivals: dict[str, tuple[Arrival, Stream]] = {}

    def routes(self) -> list[Route]:
        one = "/internal/arrivals/{transfer}"
        return [
            Route("/internal/generate", self.generate, methods=["POST"]),
            Route("/internal/arrivals", self.arrive, methods=["POST"]),
            Route(one, self.attach, methods=["GET"]),
            Route(f"{one}/begin", self.begin, methods=["POST"]),
            Route("/internal/leave", self.leave, methods=["POST"]),
            Route("/internal/role", self.become, methods=["POST"]),
        ]

    async def generate(self, request: Request) -> Response:
        asked = parse(await read_body(request, self._replica.body_limit), Generate)
        body = asked.completion or asked.chat
        if body is None:
            raise BadRequest("a completion or a chat is wanted")
        prompt = await self._replica.prompt_of(body)
        most = asked.max_tokens or self._replica.most_of(body, prompt)
        self._replica.check_fits(prompt, most)
        carried = Carried(
            prompt=prompt, resume=asked.resume, max_tokens=most, temperature=body.temperature, top_p=body.top_p,
            seed=body.fixed_seed, stops=body.stops,
        )  # fmt: skip
        self._check(carried, len(asked.resume))
        begun: Future[None] | None = Future() if asked.targets else None
        stream = Stream(self._replica.submit(prompt, carried.sampling, body.stops, asked.resume, begun), carried)
        if begun:
            stream.start(self.courier.after_prefill(stream.ticket.number, begun, carried, asked.targets))
        return self._follow(stream)

    async def arrive(self, request: Request) -> Response:
        """Answers once the request has a seat and blocks; the answer ends when all KV has come."""
        carried = parse(await read_body(request, self._replica.body_limit), Carried)
        self._check(carried, len(carried.resume) + 1)
        ticket, arrival = self._replica.expect(carried.prompt, carried.sampling, carried.stops, carried.resume)
        try:
            await unless_gone(request, _result(arrival.granted))
        except BaseException:
            ticket.close()
            raise
        self._arrivals[arrival.transfer] = arrival, Stream(ticket, carried)
        return EventStream(self._await(arrival), lambda: self._awaited(arrival), LINES)

    async def begin(self, request: Request) -> Response:
        """Answers once all KV has come and the request is being decoded."""
        arrival, stream = self._find(request)
        tokens = parse(await read_body(request, SMALL), Begin).tokens
        self._check(stream.carried, len(stream.carried.resume) + len(tokens))
        self._engine.begin(arrival, tokens)
        try:
            await _result(arrival.live)
        except Lost as lost:
            raise BadRequest(str(lost), status=502) from None
        return JSONResponse({"status": "decoding"})

    async def attach(self, request: Request) -> Response:
        _, stream = self._find(request)
        del self._arrivals[request.path_params["transfer"]]
        return self._follow(stream)

    async def leave(self, request: Request) -> Response:
        asked = parse(await read_body(request, SMALL), Leave)
        for stream in self._streams:
            way = self.courier.at_once(stream.ticket.number, stream.carried, asked.targets)
            stream.start(way, give_back=asked.everything)
        return JSONResponse({"leaving": len(self._streams)})

    async def become(self, request: Request) -> Response:
        asked = parse(await read_body(request, SMALL), Become)
        old = self._engine.scheduler.limits
        max_batch, step = asked.max_batch or old.max_batch, asked.step_tokens or old.prefill_chunk_tokens
        limits = Limits(
            max_batch=max_batch,
            max_context=old.max_context,
            max_queue=old.max_queue,
            prefill_chunk_tokens=max(step, max_batch),
        )
        self._engine.become(asked.role, limits)
        return JSONResponse({"role": asked.role})

    def _check(self, carried: Carried, told: int) -> None:
        self._replica.check_fits(carried.prompt, carried.max_tokens)
        if told >= carried.max_tokens:
            raise BadRequest("the answer is complete already", param="resume")

    def _follow(self, stream: Stream) -> Response:
        self._streams.add(stream)

        def done() -> None:
            self._streams.discard(stream)
            stream.close()

        return EventStream(stream.lines(), done, LINES)

    def _find(self, request: Request) -> tuple[Arrival, Stream]:
        transfer = request.path_params["transfer"]
        if transfer not in self._arrivals:
            raise BadRequest("no such transfer here", status=404)
        return self._arrivals[transfer]

    def _drop(self, transfer: str) -> None:
        """Nobody follows the request any more, if it is still here."""
        if found := self._arrivals.pop(transfer, None):
            found[1].close()

    async def _await(self, arrival: Arrival) -> AsyncIterator[str]:
        """Where KV goes; then nothing until all of it has come."""
        granted = {"transfer": arrival.transfer, "peers": [asdict(peer) for peer in self._peers]}
        yield json.dumps(granted) + "\n"
        with suppress(Lost, TimeoutError):
            await asyncio.wait_for(_result(arrival.live), EXPIRE)

    def _awaited(self, arrival: Arrival) -> None:
        """Somebody must soon ask for an arrival that is complete; one that is not by now will not be."""
        patience = ATTACH if arrival.live.done() and arrival.live.exception() is None else 0
        asyncio.get_running_loop().call_later(patience, self._drop, arrival.transfer)


async def _result(future: Future[None]) -> None:
    """The result of a future that others wait for too."""
    await asyncio.shield(asyncio.wrap_future(future))
