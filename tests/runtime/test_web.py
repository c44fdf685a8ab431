"""Who may ask what of a server."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from hexdsl.runtime.web import ApiKey, bind

HERE, THERE = ("127.0.0.1", 5000), ("10.0.0.9", 5000)
RIGHT, WRONG = b"Bearer a-secret", b"Bearer another"


def status(path: str, client: tuple[str, int], key: bytes, server: str = "10.0.0.1") -> int:
    """What a server at an address answers, 200 where the application is reached."""
    told: list[int] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        told.append(message.get("status", 0))

    async def receive() -> Any:
        return {"type": "http.request"}

    headers = [(b"authorization", key)]
    scope = {"type": "http", "path": path, "client": client, "server": (server, 80), "headers": headers}
    asyncio.run(ApiKey(app)(scope, receive, send))
    return told[0]


@pytest.mark.parametrize(
    ("path", "client", "key", "expected"),
    [
        ("/health", THERE, WRONG, 200),
        ("/v1/models", THERE, RIGHT, 200),
        ("/v1/models", THERE, WRONG, 401),
        ("/internal/role", THERE, RIGHT, 200),
        ("/internal/role", HERE, WRONG, 401),
        ("/admin/routing", HERE, RIGHT, 200),
        ("/admin/routing", HERE, WRONG, 401),
        ("/admin/routing", THERE, RIGHT, 403),
        ("/admin/routing", ("10.0.0.1", 5000), RIGHT, 200),
    ],
)
def test_with_a_key(
    monkeypatch: pytest.MonkeyPatch, path: str, client: tuple[str, int], key: bytes, expected: int
) -> None:
    monkeypatch.setenv("HEXC_API_KEY", "a-secret")
    assert status(path, client, key) == expected


@pytest.mark.parametrize(
    ("path", "client", "expected"),
    [("/v1/models", THERE, 200), ("/internal/role", HERE, 200), ("/internal/role", THERE, 403)],
)
def test_without_a_key_only_this_machine_comes_inside(
    monkeypatch: pytest.MonkeyPatch, path: str, client: tuple[str, int], expected: int
) -> None:
    monkeypatch.delenv("HEXC_API_KEY", raising=False)
    assert status(path, client, b"") == expected


def test_small_pieces_are_sent_at_once() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        option = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.write(b"without delay" if option else b"delayed")
        writer.close()

    async def ask() -> bytes:
        async with await asyncio.start_server(answer, sock=bind("127.0.0.1", 0)) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            told = await reader.read()
            writer.close()
            return told

    assert asyncio.run(ask()) == b"without delay"
