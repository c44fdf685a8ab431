"""The life of a peer's process: load, take frames and requests, compute, leave.

POST /internal/chain    a request whose chain begins here; its events as lines, those of `events`
GET  /health            the layers that this peer holds, and how many requests begin here
GET  /metrics, /v1/models
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NoReturn

import torch
from pydantic import Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hexdsl.runtime.api import BadRequest, ChatRequest, CompletionRequest, TokenId, parse
from hexdsl.runtime.carrying import Message
from hexdsl.runtime.chain_config import PeerConfig
from hexdsl.runtime.chain_engine import PeerEngine
from hexdsl.runtime.chain_wire import Door, Place
from hexdsl.runtime.checkpoint import Checkpoint, open_checkpoint
from hexdsl.runtime.config import RuntimeFault
from hexdsl.runtime.engine import Busy
from hexdsl.runtime.engine import Stopping as Ending
from hexdsl.runtime.events import Accepted, line_of
from hexdsl.runtime.inside import LINES
from hexdsl.runtime.kv import allocate
from hexdsl.runtime.link import link
from hexdsl.runtime.metrics import CONTENT_TYPE
from hexdsl.runtime.model import Loader, Stage
from hexdsl.runtime.parallel import Team
from hexdsl.runtime.prompts import Prompts
from hexdsl.runtime.scheduler import Sampling
from hexdsl.runtime.server import EventStream, Ticket, listen
from hexdsl.runtime.stopping import Stopping
from hexdsl.runtime.text import load_tokenizer, reader
from hexdsl.runtime.web import HANDLERS, ApiKey, Server, bind, read_body

LEAVE = 10.0
"""Seconds that the engine has to end."""


class Chained(Message):
    """A request of a client, one of the two, and the chain that it goes over; `resume` is what the client has."""

    completion: CompletionRequest | None = None
    chat: ChatRequest | None = None
    resume: list[TokenId] = Field(default_factory=list)
    max_tokens: int | None = Field(None, ge=1)
    chain: list[Place] = Field(min_length=1, max_length=64)


@dataclass(frozen=True)
class Peer(Prompts):
    """The handlers of a peer."""

    engine: PeerEngine
    started: int

    @property
    def name(self) -> str:
        return self.engine.config.model.name

    @property
    def max_context(self) -> int:
        return self.engine.config.limits.max_context

    @property
    def capacity(self) -> int:
        return self.engine.config.capacity

    async def chain(self, request: Request) -> Response:
        asked = parse(await read_body(request, self.body_limit), Chained)
        body = asked.completion or asked.chat
        if body is None:
            raise BadRequest("a completion or a chat is wanted")
        self._check(asked.chain)
        prompt = await self.prompt_of(body)
        most = asked.max_tokens or self.most_of(body, prompt)
        self.check_fits(prompt, most)
        if len(asked.resume) >= most:
            raise BadRequest("the answer is complete already", param="resume")
        arrived, emit = listen()
        sampling = Sampling(most, body.temperature, body.top_p, body.fixed_seed)
        try:
            number = self.engine.submit(prompt, sampling, body.stops, emit, asked.resume, tuple(asked.chain))
        except (Busy, Ending):
            raise BadRequest("this peer takes no more requests now", status=503) from None
        ticket = Ticket(self.engine, number, arrived)
        return EventStream(_lines(ticket, Accepted(len(prompt), most)), ticket.close, LINES)

    async def models(self, _: Request) -> Response:
        model = {"id": self.name, "object": "model", "created": self.started, "owned_by": "hexc"}
        return JSONResponse({"object": "list", "data": [model]})

    async def health(self, _: Request) -> Response:
        config, engine = self.engine.config, self.engine
        about = {"status": "ready", "peer": config.peer, "model": self.name, "layers": list(config.layers)}
        return JSONResponse({**about, "pid": os.getpid(), "requests": engine.live(), "blocks_free": engine.pool.free})

    async def metrics(self, _: Request) -> Response:
        return Response(self.engine.metrics(), media_type=CONTENT_TYPE)

    def _check(self, chain: list[Place]) -> None:
        """Raises `BadRequest` for a chain that does not begin here, or that does not do every layer once."""
        config, at = self.engine.config, 0
        for place in chain:
            if place.first != at or place.end <= at:
                raise BadRequest("a chain must do every layer once, in order", param="chain")
            at = place.end
        if at != config.total_layers or chain[0].name != config.peer or chain[0].end > config.layers[1]:
            raise BadRequest("this chain does not begin here, or does not end with the model", param="chain")


async def _lines(ticket: Ticket, accepted: Accepted) -> AsyncIterator[str]:
    yield line_of(accepted)
    async for event in ticket.events():
        yield line_of(event)


def run(config: PeerConfig, stopping: Stopping) -> NoReturn:
    """Runs a peer until it is stopped.  Raises `RuntimeFault` for what the user can put right."""
    checkpoint = open_checkpoint(config.model.folder)
    listener = bind(config.host, config.port)
    # Two tokenizers: one may be used by one thread at a time, and the engine's thread decodes while others encode.
    tokenizer, decoder = load_tokenizer(config.model.folder), load_tokenizer(config.model.folder)
    stage = stage_of(config, checkpoint)
    engine = PeerEngine(config, stage, int(checkpoint.config.hidden_size), reader(decoder), checkpoint.end_tokens)
    try:
        Door(config.host, config.wire_port, engine.hear, engine.gone)
    except OSError as error:
        raise RuntimeFault(f"cannot listen on {config.host}:{config.wire_port}: {error.strerror or error}") from None
    server = Server(make_app(Peer(tokenizer, checkpoint.config.vocab_size, asyncio.Lock(), engine, int(time.time()))))

    def stop() -> None:
        engine.stop()
        server.end()

    stopping.when_asked(stop)
    thread = threading.Thread(target=_guarded, args=(engine,), name="engine", daemon=True)
    thread.start()
    first, end = config.layers
    print(f"{config.peer}: layers {first}-{end - 1} of {config.model.name} ready", flush=True)
    server.run(sockets=[listener])
    thread.join(LEAVE)
    sys.stdout.flush()
    os._exit(0)  # nothing is left to save, and torch takes a second to be taken down


def _guarded(engine: PeerEngine) -> None:
    """A failure ends the process: the other peers notice, and their requests take other chains."""
    try:
        engine.run()
    except Exception as error:
        print(f"{engine.config.peer}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def stage_of(config: PeerConfig, checkpoint: Checkpoint) -> Stage:
    """This peer's layers with their KV pools.  Raises `RuntimeFault` where config and weights disagree."""
    count = checkpoint.config.num_hidden_layers
    if config.total_layers != count:
        raise RuntimeFault(f"{checkpoint.folder} has {count} layers, the config says {config.total_layers}")
    loader = Loader(checkpoint, Team(), getattr(torch, config.model.dtype), torch.device(config.device))
    first, end = config.layers
    part = loader.part(range(first, end), first=first == 0, last=end == count)
    like, share, kv = torch.empty(0, dtype=loader.dtype, device=loader.device), loader.share, config.kv
    pools = allocate(range(first, end), kv.blocks, kv.block_tokens, share.num_key_value_heads, share.head_dim, like)
    return Stage(link(part, config.kernels), pools, kv.block_tokens, loader.device)


def make_app(peer: Peer) -> Starlette:
    routes = [
        Route("/internal/chain", peer.chain, methods=["POST"]),
        Route("/v1/models", peer.models),
        Route("/health", peer.health),
        Route("/metrics", peer.metrics),
    ]
    return Starlette(routes=routes, middleware=[Middleware(ApiKey)], exception_handlers=HANDLERS)
