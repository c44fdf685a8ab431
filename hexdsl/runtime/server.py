"""The HTTP server of one replica: OpenAI's API over the engine, /health and /metrics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
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
    Kind,
    Shape,
    error_body,
    parse,
    usage,
)
from hexdsl.runtime.engine import Busy, Engine, Event, Stopping
from hexdsl.runtime.metrics import CONTENT_TYPE
from hexdsl.runtime.scheduler import Sampling
from hexdsl.runtime.web import HANDLERS, ApiKey, read_body, unless_gone

BODY_BYTES_PER_TOKEN = 16
SMALLEST_BODY_LIMIT = 1 << 20


@dataclass(frozen=True)
class Replica:
    """The handlers.  `stages` is what /health reports: ranks with their pids and layers."""

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    vocab: int
    stages: Sequence[dict[str, Any]]
    started: int
    lock: asyncio.Lock

    async def completions(self, request: Request) -> Response:
        asked = await self._read(request, CompletionRequest)
        prompt = await self._encode(asked.one_prompt)
        return await self._answer(request, asked, prompt, asked.max_tokens, chat=False)

    async def chat(self, request: Request) -> Response:
        asked = await self._read(request, ChatRequest)
        prompt = await self._encode_chat(asked)
        most = asked.most_tokens or max(1, self.engine.config.capacity - len(prompt))
        return await self._answer(request, asked, prompt, most, chat=True)

    async def models(self, _: Request) -> Response:
        model = {"id": self._name, "object": "model", "created": self.started, "owned_by": "hexc"}
        return JSONResponse({"object": "list", "data": [model]})

    async def health(self, _: Request) -> Response:
        config = self.engine.config
        return JSONResponse(
            {"status": "ready", "replica": config.replica, "model": self._name, "stages": list(self.stages)}
        )

    async def metrics(self, _: Request) -> Response:
        return Response(self.engine.measures.render(), media_type=CONTENT_TYPE)

    @property
    def _name(self) -> str:
        return self.engine.config.model.name

    async def _read(self, request: Request, kind: type[Kind]) -> Kind:
        limit = max(SMALLEST_BODY_LIMIT, BODY_BYTES_PER_TOKEN * self.engine.config.limits.max_context)
        asked = parse(await read_body(request, limit), kind)
        if asked.model not in (None, self._name):
            message = f"no model `{asked.model}` here; this server has `{self._name}`"
            raise BadRequest(message, param="model", status=404, code="model_not_found")
        return asked

    async def _encode(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            async with self.lock:
                encoded: list[int] = await asyncio.to_thread(lambda: self.tokenizer(prompt).input_ids)
            return encoded
        for token in prompt:
            if token >= self.vocab:
                raise BadRequest(f"token id {token} is not below the vocabulary's size {self.vocab}", param="prompt")
        return prompt

    async def _encode_chat(self, asked: ChatRequest) -> list[int]:
        if not self.tokenizer.chat_template:
            raise BadRequest("this model's tokenizer has no chat template; use /v1/completions", param="messages")
        turns = [message.plain() for message in asked.messages]
        try:
            async with self.lock:
                return await asyncio.to_thread(self._apply_template, turns)
        except TemplateError as error:
            raise BadRequest(f"the chat template refuses these messages: {error}", param="messages") from None

    def _apply_template(self, turns: list[dict[str, str]]) -> list[int]:
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _check_fits(self, prompt: Sequence[int], most: int) -> None:
        config = self.engine.config
        if not prompt:
            raise BadRequest("the prompt is empty", param="prompt")
        if len(prompt) + most > config.capacity:
            kind = "context" if config.capacity == config.limits.max_context else "KV cache"
            numbers = f"{len(prompt)} prompt tokens + {most} max_tokens"
            raise BadRequest(
                f"{numbers} are more than the {kind} of {config.capacity} tokens",
                param="max_tokens",
                code="context_length_exceeded",
            )

    async def _answer(
        self, request: Request, asked: CompletionRequest | ChatRequest, prompt: list[int], most: int, *, chat: bool
    ) -> Response:
        self._check_fits(prompt, most)
        ticket = self._submit(prompt, Sampling(most, asked.temperature, asked.top_p, asked.fixed_seed), asked.stops)
        shape = Shape(self._name, int(time.time()), chat=chat)
        if asked.stream:
            return EventStream(ticket, _stream(ticket, shape, with_usage=asked.stream_options.include_usage))
        with closing(ticket):
            return await unless_gone(request, _whole(ticket, shape))

    def _submit(self, prompt: list[int], sampling: Sampling, stops: list[str]) -> Ticket:
        loop, arrived = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def emit(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(arrived.put_nowait, event)

        try:
            number = self.engine.submit(prompt, sampling, stops, emit)
        except Busy:
            self.engine.measures.requests.add(1, "refused")
            raise BadRequest("the queue is full, try again later", status=429, code="queue_full") from None
        except Stopping:
            raise BadRequest("the server is stopping", status=503) from None
        return Ticket(self.engine, number, len(prompt), arrived)


@dataclass(frozen=True)
class Ticket:
    """A submitted request: its events as they come; closing it cancels what is left of it."""

    engine: Engine
    number: int
    prompt: int
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
    """Server-sent events; the request is cancelled when the client goes away, even before the first byte."""

    def __init__(self, ticket: Ticket, pieces: AsyncIterator[str]) -> None:
        super().__init__(pieces, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with closing(self._ticket):
            await super().__call__(scope, receive, send)


async def _whole(ticket: Ticket, shape: Shape) -> Response:
    text, tokens, finish = [], 0, "stop"
    async for event in ticket.events():
        if event.error:
            raise BadRequest(event.error, status=503)
        text.append(event.text)
        tokens, finish = event.tokens, event.finish or finish
    return JSONResponse(shape.whole("".join(text), finish, usage(ticket.prompt, tokens)))


async def _stream(ticket: Ticket, shape: Shape, *, with_usage: bool) -> AsyncIterator[str]:
    """Chunks, then [DONE]."""
    tokens = 0
    if first := shape.first():
        yield _sse(first)
    async for event in ticket.events():
        if event.error:
            yield _sse(error_body(event.error, "server_error"))
        elif event.text or event.finish:
            yield _sse(shape.piece(event.text, event.finish))
        tokens = event.tokens
    if with_usage:
        yield _sse(shape.usage(usage(ticket.prompt, tokens)))
    yield "data: [DONE]\n\n"


def _sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def make_app(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, vocab: int, stages: Sequence[dict[str, Any]]
) -> Starlette:
    replica = Replica(engine, tokenizer, vocab, stages, int(time.time()), asyncio.Lock())
    routes = [
        Route("/v1/completions", replica.completions, methods=["POST"]),
        Route("/v1/chat/completions", replica.chat, methods=["POST"]),
        Route("/v1/models", replica.models),
        Route("/health", replica.health),
        Route("/metrics", replica.metrics),
    ]
    return Starlette(routes=routes, middleware=[Middleware(ApiKey)], exception_handlers=HANDLERS)
