"""The HTTP server of one replica: OpenAI's API over the engine, /health and /metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from transformers import PreTrainedTokenizerBase

from hexdsl.runtime.api import (
    BadRequest,
    ChatRequest,
    CompletionRequest,
    Shape,
    parse,
)
from hexdsl.runtime.engine import Busy, Engine, Stopping
from hexdsl.runtime.events import Event, stream, whole
from hexdsl.runtime.metrics import CONTENT_TYPE
from hexdsl.runtime.prompts import Asked, Prompts
from hexdsl.runtime.scheduler import Sampling
from hexdsl.runtime.transfers import Arrival
from hexdsl.runtime.web import HANDLERS, ApiKey, read_body, unless_gone

AskedKind = TypeVar("AskedKind", CompletionRequest, ChatRequest)


@dataclass(frozen=True)
class Replica(Prompts):
    """The handlers.  `stages` is what /health reports: ranks with their pids and layers."""

    engine: Engine
    stages: Sequence[dict[str, Any]]
    started: int

    async def completions(self, request: Request) -> Response:
        return await self._answer(request, await self._read(request, CompletionRequest))

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, await self._read(request, ChatRequest))

    async def models(self, _: Request) -> Response:
        model = {"id": self.name, "object": "model", "created": self.started, "owned_by": "hexc"}
        return JSONResponse({"object": "list", "data": [model]})

    async def health(self, _: Request) -> Response:
        engine = self.engine
        about = {"status": "ready", "replica": engine.config.replica, "model": self.name, "role": engine.role}
        return JSONResponse({**about, "requests": engine.live(), "stages": list(self.stages)})

    async def metrics(self, _: Request) -> Response:
        return Response(self.engine.measures.render(), media_type=CONTENT_TYPE)

    @property
    def name(self) -> str:
        return self.engine.config.model.name

    @property
    def max_context(self) -> int:
        return self.engine.config.limits.max_context

    @property
    def capacity(self) -> int:
        return self.engine.config.capacity

    async def _read(self, request: Request, kind: type[AskedKind]) -> AskedKind:
        return parse(await read_body(request, self.body_limit), kind)

    async def _answer(self, request: Request, asked: Asked) -> Response:
        prompt = await self.prompt_of(asked)
        most = self.most_of(asked, prompt)
        self.check_fits(prompt, most)
        ticket = self.submit(prompt, Sampling(most, asked.temperature, asked.top_p, asked.fixed_seed), asked.stops)
        shape = Shape(self.name, int(time.time()), chat=isinstance(asked, ChatRequest))
        if asked.stream:
            pieces = stream(ticket.events(), shape, len(prompt), with_usage=asked.stream_options.include_usage)
            return EventStream(pieces, ticket.close, "text/event-stream")
        with closing(ticket):
            return JSONResponse(await unless_gone(request, whole(ticket.events(), shape, len(prompt))))

    def submit(
        self,
        prompt: list[int],
        sampling: Sampling,
        stops: list[str],
        resume: Sequence[int] = (),
        begun: Future[None] | None = None,
    ) -> Ticket:
        """Queues a request.  Raises `BadRequest` where there is no room for it."""
        arrived, emit = listen()
        with self._refusals():
            number = self.engine.submit(prompt, sampling, stops, emit, resume, begun)
        return Ticket(self.engine, number, arrived)

    def expect(
        self, prompt: list[int], sampling: Sampling, stops: list[str], resume: Sequence[int]
    ) -> tuple[Ticket, Arrival]:
        """Queues a request whose KV comes from another replica.  Raises like `submit`."""
        arrived, emit = listen()
        with self._refusals():
            arrival = self.engine.arrive(prompt, sampling, stops, emit, resume)
        return Ticket(self.engine, arrival.sequence.id, arrived), arrival

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except Busy:
            self.engine.measures.requests.add(1, "refused")
            raise BadRequest("the queue is full, try again later", status=429, code="queue_full") from None
        except Stopping:
            raise BadRequest("the server is stopping", status=503) from None


def listen() -> tuple[asyncio.Queue[Event], Callable[[Event], None]]:
    """A queue of this thread's loop, and what puts events in it from any thread."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def emit(event: Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(arrived.put_nowait, event)

    return arrived, emit


class Cancels(Protocol):
    """An engine, as far as a ticket knows it."""

    def cancel(self, request: int) -> None: ...


@dataclass(frozen=True)
class Ticket:
    """A submitted request: its events as they come; closing it cancels what is left of it."""

    engine: Cancels
    number: int
    arrived: asyncio.Queue[Event]

    async def events(self) -> AsyncIterator[Event]:
        last = False
        while not last:
            event = await self.arrived.get()
            last = event.last
            yield event

    def close(self) -> None:
        self.engine.cancel(self.number)


class EventStream(StreamingResponse):
    """Pieces as they are made; `done` is called at the end and when the client goes, even before the first byte."""

    def __init__(self, pieces: AsyncIterator[str], done: Callable[[], None], media_type: str) -> None:
        super().__init__(pieces, media_type=media_type, headers={"Cache-Control": "no-cache"})
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._done()


def replica_of(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, vocab: int, stages: Sequence[dict[str, Any]]
) -> Replica:
    return Replica(tokenizer, vocab, asyncio.Lock(), engine, stages, int(time.time()))


def make_app(replica: Replica, more: Sequence[Route] = ()) -> Starlette:
    routes = [
        Route("/v1/completions", replica.completions, methods=["POST"]),
        Route("/v1/chat/completions", replica.chat, methods=["POST"]),
        Route("/v1/models", replica.models),
        Route("/health", replica.health),
        Route("/metrics", replica.metrics),
        *more,
    ]
    return Starlette(routes=routes, middleware=[Middleware(ApiKey)], exception_handlers=HANDLERS)
