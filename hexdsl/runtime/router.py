"""The endpoint of a service: `python -m hexdsl.runtime.router --config config/router.json`.

Shares out the requests to OpenAI's endpoints by weight, streams included: to replicas of our own engine (`relaying`),
to any servers that speak OpenAI's API (`passing`), or over chains of peers that hold parts of the model
(`chain_relay`).  Where replicas do one half of the work each, a request is first
prefilled by one and then decoded by another.  A replica that cannot be reached or is full is passed over.  Every answer
names its replica in the header `x-hexc-replica`, and in `x-hexc-prefill` who prefilled, as far as that is known when it
begins.

    GET /admin/routing    the routing as it is
    PUT /admin/routing    another one: new requests go by it at once, and the config file has it for the next start
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hexdsl.runtime.api import BadRequest, parse
from hexdsl.runtime.chain_relay import ChainRelay
from hexdsl.runtime.client import make_client
from hexdsl.runtime.config import RouterConfig, RoutingConfig, faults_to_exit, read
from hexdsl.runtime.fleet import Fleet
from hexdsl.runtime.metrics import CONTENT_TYPE, Counter, Gauge, render
from hexdsl.runtime.passing import pass_on
from hexdsl.runtime.relaying import relay
from hexdsl.runtime.signals import on_stop_signal
from hexdsl.runtime.web import HANDLERS, ApiKey, Server, bind, read_body


class Router:
    """The handlers; `busy` counts the requests that are being answered."""

    def __init__(self, fleet: Fleet, path: Path | None = None) -> None:
        self._fleet, self._path = fleet, path
        self.busy = 0
        self._full = Counter("hexc_router_full_total", "Requests refused because the router was full.")
        self._gauge = Gauge("hexc_router_requests_running", "Requests being answered.", lambda: self.busy)

    async def completions(self, request: Request) -> Response:
        return await self._answer(request, chat=False)

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, chat=True)

    async def models(self, request: Request) -> Response:
        return await pass_on(self._fleet, request, b"")

    async def _answer(self, request: Request, *, chat: bool) -> Response:
        if self.busy >= self._fleet.config.max_queue:
            self._full.add()
            raise BadRequest("the service is full, try again later", status=429, code="queue_full")
        seat = Seat(self)
        try:
            body = await read_body(request, self._fleet.config.max_body_bytes)
            if self._fleet.chains:
                return Seated(await relay(self._fleet, request, body, chat=chat, way_of=ChainRelay), seat)
            if self._fleet.ours:
                return Seated(await relay(self._fleet, request, body, chat=chat), seat)
            return Seated(await pass_on(self._fleet, request, body), seat)
        except BaseException:
            seat.leave()
            raise

    async def health(self, _: Request) -> Response:
        """Ready when one replica is that can answer; always lists them all."""
        fleet = self._fleet
        replicas = await asyncio.gather(*map(fleet.health_of, fleet.table.config.replicas))
        alone = fleet.ours  # our engine decodes what nobody else takes
        ready = any(replica["ready"] and (alone or replica["role"] != "prefill") for replica in replicas)
        if fleet.chains:
            ready = fleet.chains.possible({replica["name"] for replica in replicas if replica["ready"]})
        status = "ready" if ready else "unavailable"
        body = {"status": status, "model": fleet.config.model, "replicas": replicas}
        return JSONResponse(body, 200 if ready else 503)

    async def metrics(self, _: Request) -> Response:
        f = self._fleet
        counted = (f.answers, f.handovers, f.refusals, f.retries, f.changes, f.down_gauge, self._full, self._gauge)
        return Response(render(counted), media_type=CONTENT_TYPE)

    async def routing(self, _: Request) -> Response:
        return JSONResponse(self._fleet.table.config.model_dump(mode="json", exclude_none=True))

    async def change(self, request: Request) -> Response:
        routing = parse(await read_body(request, self._fleet.config.max_body_bytes), RoutingConfig)
        if bool(routing.chains) != bool(self._fleet.chains):
            raise BadRequest("`chains` are what a router begins with", param="chains")
        await self._fleet.change(routing)
        if self._path:
            with _complaining(self._path):
                _save(self._path, self._fleet.config)
        return await self.routing(request)


class Seat:
    """One of the router's places; left exactly once."""

    def __init__(self, router: Router) -> None:
        self._router, self._taken = router, True
        router.busy += 1

    def leave(self) -> None:
        if self._taken:
            self._taken = False
            self._router.busy -= 1


class Seated(Response):
    """An answer that keeps its seat until it has been sent."""

    def __init__(self, answer: Response, seat: Seat) -> None:
        self._answer, self._seat = answer, seat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            self._seat.leave()


@contextmanager
def _complaining(path: Path) -> Iterator[None]:
    """The change holds, though it will not outlast this process."""
    try:
        yield
    except OSError as error:
        print(f"router: {path} cannot be written: {error.strerror}", file=sys.stderr, flush=True)


def _save(path: Path, config: RouterConfig) -> None:
    """The file for the next start, old or new at any moment."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(config.model_dump(mode="json", exclude_none=True), indent=2) + "\n", encoding="utf-8")
    os.replace(new, path)


def make_app(config: RouterConfig, path: Path | None = None) -> Starlette:
    """The service; changes of the routing are kept in the file at `path`."""
    fleet = Fleet(config, make_client())
    router = Router(fleet, path)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with fleet.client:
            watch = asyncio.create_task(fleet.watch())
            yield
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    routes = [
        Route("/v1/completions", router.completions, methods=["POST"]),
        Route("/v1/chat/completions", router.chat, methods=["POST"]),
        Route("/v1/models", router.models),
        Route("/health", router.health),
        Route("/metrics", router.metrics),
        Route("/admin/routing", router.routing, methods=["GET"]),
        Route("/admin/routing", router.change, methods=["PUT"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(ApiKey)], exception_handlers=HANDLERS, lifespan=lifespan)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.router", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(argv)
    with faults_to_exit("router"):
        config = read(options.config, RouterConfig)
        bound = bind(config.host, config.port)
        server = Server(make_app(config, options.config))
        on_stop_signal(server.end)
        print(f"router: {config.model} on http://{config.host}:{config.port}", flush=True)
        server.run(sockets=[bound])


if __name__ == "__main__":
    main()
