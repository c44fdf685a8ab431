"""The endpoint of a service: `python -m hexdsl.runtime.router --config config/router.json`.

Passes OpenAI's endpoints on to the replicas by weight, streams included.  A replica that cannot be reached or is
full is passed over before the first byte.  Every answer names its replica in the header `x-hexc-replica`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hexdsl.runtime.api import BadRequest
from hexdsl.runtime.config import ReplicaConfig, RouterConfig, faults_to_exit, read
from hexdsl.runtime.metrics import CONTENT_TYPE, Counter, Gauge, render
from hexdsl.runtime.routing import Wheel
from hexdsl.runtime.signals import on_stop_signal
from hexdsl.runtime.web import HANDLERS, ApiKey, Server, bind, read_body, unless_gone

CONNECT = 2.0
"""Seconds for a replica to accept a connection, or to tell its health."""

PASSED = ("content-type", "cache-control", "retry-after", "www-authenticate")
"""Headers of a replica's answer that the client gets."""

OVER = (429, 503)
"""A replica that answers so is full or stopping: another one may have room."""

REPLICA = "x-hexc-replica"


class Router:
    """The handlers; `busy` counts the requests that are being answered."""

    def __init__(self, config: RouterConfig, client: httpx.AsyncClient) -> None:
        self._config, self._client = config, client
        self._wheel = Wheel(config.replicas)
        self.busy = 0
        names = [replica.name for replica in config.replicas]
        self._answers = Counter("hexc_router_answers_total", "Answers by replica.", "replica", names)
        self._refusals = Counter("hexc_router_refusals_total", "Requests a replica did not take.", "replica", names)
        self._full = Counter("hexc_router_full_total", "Requests refused because the router was full.")
        self._gauge = Gauge("hexc_router_requests_running", "Requests being answered.", lambda: self.busy)

    async def forward(self, request: Request) -> Response:
        if self.busy >= self._config.max_queue:
            self._full.add()
            raise BadRequest("the service is full, try again later", status=429, code="queue_full")
        seat = Seat(self)
        try:
            body = await read_body(request, self._config.max_body_bytes)
            replica, answer = await unless_gone(request, self._ask(request, body))
        except BaseException:
            seat.leave()
            raise
        return Passage(replica, answer, seat)

    async def _ask(self, request: Request, body: bytes) -> tuple[str, httpx.Response]:
        """The first answer that is not a refusal; the last refusal if all refuse."""
        tried: list[str] = []
        while replica := self._wheel.next(tried):
            tried.append(replica.name)
            answer = await self._try(replica, request, body)
            if answer is None:
                continue
            if answer.status_code not in OVER or len(tried) == len(self._config.replicas):
                self._answers.add(1, replica.name)
                return replica.name, answer
            await answer.aclose()
        raise BadRequest("no replica can be reached", status=503)

    async def _try(self, replica: ReplicaConfig, request: Request, body: bytes) -> httpx.Response | None:
        """The replica's answer, its body unread; None where it cannot be reached or dies before it answers."""
        keep = {k: v for k, v in request.headers.items() if k in ("content-type", "authorization", "accept")}
        sent = self._client.build_request(request.method, replica.url + request.url.path, content=body, headers=keep)
        try:
            answer = await self._client.send(sent, stream=True)
        except httpx.TransportError:
            self._wheel.refused(replica.name)
            self._refusals.add(1, replica.name)
            return None
        self._wheel.answered(replica.name)
        return answer

    async def health(self, _: Request) -> Response:
        """Ready when one replica is; always lists them all."""
        replicas = await asyncio.gather(*map(self._health_of, self._config.replicas))
        ready = any(replica["ready"] for replica in replicas)
        status = "ready" if ready else "unavailable"
        body = {"status": status, "model": self._config.model, "replicas": replicas}
        return JSONResponse(body, 200 if ready else 503)

    async def _health_of(self, replica: ReplicaConfig) -> dict[str, Any]:
        known = {"name": replica.name, "url": replica.url, "weight": replica.weight}
        try:
            answer = await self._client.get(f"{replica.url}/health", timeout=CONNECT)
            told = answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            told = {}
        return {**known, "ready": told.get("status") == "ready", "stages": told.get("stages", [])}

    async def metrics(self, _: Request) -> Response:
        text = render((self._answers, self._refusals, self._full, self._gauge))
        return Response(text, media_type=CONTENT_TYPE)


class Seat:
    """One of the router's places; left exactly once."""

    def __init__(self, router: Router) -> None:
        self._router, self._taken = router, True
        router.busy += 1

    def leave(self) -> None:
        if self._taken:
            self._taken = False
            self._router.busy -= 1


class Passage(StreamingResponse):
    """A replica's answer on its way to the client.  When the client goes, so does the connection to the replica."""

    def __init__(self, replica: str, answer: httpx.Response, seat: Seat) -> None:
        headers = {name: answer.headers[name] for name in PASSED if name in answer.headers}
        super().__init__(_pieces(answer), answer.status_code, {**headers, REPLICA: replica})
        self._answer, self._seat = answer, seat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._seat.leave()
            await self._answer.aclose()


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes; a replica that dies in the middle ends it (without [DONE], in a stream)."""
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx.HTTPError:
        return


def make_app(config: RouterConfig) -> Starlette:
    # A replica may think for long before its first byte, so only connecting is timed.  Connections are given up sooner
    # than the replica's server gives them up (5 s), so that none is used that has just been closed.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=2)
    client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=CONNECT), limits=limits, trust_env=False)
    router = Router(config, client)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    routes = [
        Route("/v1/completions", router.forward, methods=["POST"]),
        Route("/v1/chat/completions", router.forward, methods=["POST"]),
        Route("/v1/models", router.forward),
        Route("/health", router.health),
        Route("/metrics", router.metrics),
    ]
    return Starlette(routes=routes, middleware=[Middleware(ApiKey)], exception_handlers=HANDLERS, lifespan=lifespan)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.router", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(argv)
    with faults_to_exit("router"):
        config = read(options.config, RouterConfig)
        bound = bind(config.host, config.port)
        server = Server(make_app(config))
        on_stop_signal(server.end)
        print(f"router: {config.model} on http://{config.host}:{config.port}", flush=True)
        server.run(sockets=[bound])


if __name__ == "__main__":
    main()
