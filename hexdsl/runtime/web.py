"""What the replica's server and the router share: API key, body bound, errors in OpenAI's shape.  No torch."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import os
import socket
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hexdsl.runtime.api import BadRequest, error_body
from hexdsl.runtime.client import KEY_VARIABLE
from hexdsl.runtime.config import RuntimeFault

GRACE = 3
"""Seconds that open connections have to end when the server stops."""

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed the connection before the answer was ready."""


class ApiKey:
    """Asks for `Authorization: Bearer KEY` under /v1/, /internal/ and /admin/, if the environment sets a key.

    /admin/, and without a key /internal/ too, are for clients on this machine only.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._wanted = os.environ.get(KEY_VARIABLE, "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        admin, internal = (scope["path"].startswith(place) for place in ("/admin/", "/internal/"))
        if (admin or (internal and not self._wanted)) and not _is_local(scope):
            return JSONResponse(error_body("only from this machine", "permission_error"), 403)
        if (admin or internal or scope["path"].startswith("/v1/")) and not self._allowed(scope):
            words = f"a valid API key is wanted: Authorization: Bearer ${KEY_VARIABLE}"
            return JSONResponse(error_body(words, "authentication_error"), 401, {"WWW-Authenticate": "Bearer"})
        return None

    def _allowed(self, scope: Scope) -> bool:
        if not self._wanted:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._wanted.encode())


def _is_local(scope: Scope) -> bool:
    """Whether the client is on this machine: on loopback, or at the address that it connected to."""
    client, server = scope.get("client"), scope.get("server")
    if client is None:
        return False
    try:
        return client[0] == (server and server[0]) or ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def read_body(request: Request, limit: int) -> bytes:
    """The body.  Raises `BadRequest` (413) as soon as it is longer than `limit` bytes."""
    too_long = BadRequest(f"the body is longer than {limit} bytes", status=413)
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise too_long
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise too_long
    return bytes(body)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`.  Cancels it and raises `ClientGone` if the client closes the connection first."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for other in (task, gone):
            other.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def on_bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    body = error_body(error.message, kind, param=error.param, code=error.code)
    retry = {"Retry-After": "1"} if error.status in (429, 503) else None
    return JSONResponse(body, error.status, retry)


async def on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(error.detail, "invalid_request_error"), error.status_code, error.headers)


async def on_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)


async def on_bug(request: Request, error: Exception) -> Response:
    print(f"{request.url.path}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return JSONResponse(error_body("the server made a mistake; its log says more", "server_error"), 500)


HANDLERS: dict[Any, Any] = {
    BadRequest: on_bad_request,
    HTTPException: on_http_error,
    ClientGone: on_gone,
    Exception: on_bug,
}


class Server(uvicorn.Server):  # type: ignore[misc]
    """uvicorn with exit code 0 on SIGTERM and SIGINT; its own handling would end the process by the signal."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False)
        config.timeout_graceful_shutdown = GRACE
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """Stops serving, from any thread."""
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A socket that does not listen yet, so that clients are refused until the server is ready.

    Raises `RuntimeFault` where the port is taken or the host is not ours.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Told the protocol, asyncio turns Nagle's algorithm off, which would hold each first piece back for 40 ms.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        raise RuntimeFault(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return bound
