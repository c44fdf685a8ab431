"""The frames in which KV travels between ranks over TCP: a length, a small JSON header, raw bytes.  Nothing pickled.

A connection begins with a `Hello` that names the transfer, whose number only its two replicas know, and proves the API
key where there is one.  It then brings `Piece`s, or is a `Notice` from a rank to its own rank 0.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import struct
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hexdsl.runtime.client import KEY_VARIABLE

HEADER_BYTES = 4096
PIECE_BYTES = 1 << 28
PATIENCE = 30.0
"""Seconds for a connection to be made, and for the next bytes to come or go."""

Word = Literal["done", "broken"]


class WireError(Exception):
    """What came is not what was agreed, or stopped coming."""


class Header(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Keyed(Header):
    """A greeting: it proves the API key, where there is one."""

    key: str = ""


class Hello(Keyed):
    """`notice` is for rank 0: rank `rank` has everything of a transfer, or its part of it broke."""

    transfer: str = Field(max_length=64)
    notice: Word | None = None
    rank: int = Field(0, ge=0)


class Piece(Header):
    """KV of one layer, of the heads and positions `[first, end)`, in `bits` a value of the sender's `dtype`."""

    layer: int = Field(ge=0)
    heads: tuple[int, int]
    positions: tuple[int, int]
    bits: Literal[4, 8, 16, 32]
    dtype: Literal["float32", "bfloat16", "float16"]
    bytes: int = Field(ge=0, le=PIECE_BYTES)


Kind = TypeVar("Kind", bound=Header)


def hello(transfer: str, notice: Word | None = None, rank: int = 0) -> Hello:
    """A greeting with this process's API key."""
    return Hello(transfer=transfer, key=os.environ.get(KEY_VARIABLE, ""), notice=notice, rank=rank)


def may_enter(greeting: Keyed) -> bool:
    return hmac.compare_digest(greeting.key.encode(), os.environ.get(KEY_VARIABLE, "").encode())


def connect(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    connection = socket.create_connection((host, port), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, header: Header, payload: bytes = b"") -> None:
    """Raises OSError."""
    words = header.model_dump_json().encode()
    connection.sendall(struct.pack("!I", len(words)) + words)
    connection.sendall(payload)


def receive(connection: socket.socket, kind: type[Kind]) -> Kind | None:
    """The next header; None at the end of the stream.  Raises `WireError`, OSError."""
    first = connection.recv(1)
    if not first:
        return None
    (length,) = struct.unpack("!I", first + read(connection, 3))
    if length > HEADER_BYTES:
        raise WireError(f"a header of {length} bytes")
    try:
        return kind.model_validate_json(bytes(read(connection, length)))
    except ValidationError as error:
        raise WireError(f"not a {kind.__name__}: {error.error_count()} mistakes") from None


def read(connection: socket.socket, length: int) -> bytearray:
    """Exactly so many bytes.  Raises `WireError` where the stream ends before, OSError."""
    data = bytearray(length)
    view, done = memoryview(data), 0
    while done < length:
        count = connection.recv_into(view[done:])
        if count == 0:
            raise WireError("the stream ended in the middle")
        done += count
    return data


def notify(host: str, port: int, transfer: str, word: Word, rank: int) -> None:
    """Tells rank 0, which notices by its time limits should this fail."""
    with contextlib.suppress(OSError), connect(host, port) as connection:
        send(connection, hello(transfer, word, rank))
