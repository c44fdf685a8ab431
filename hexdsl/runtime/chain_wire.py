"""What peers of a chain say to each other over TCP: a greeting with the API key, then frames.  Nothing pickled.

A connection goes one way, from one peer to another.  Its end says that one of them is gone: each peer of a chain is
connected to by the first one, which so hears of a death at once.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from hexdsl.runtime import kv_wire
from hexdsl.runtime.client import KEY_VARIABLE
from hexdsl.runtime.kv_wire import Header, Keyed
from hexdsl.runtime.lifeline import keep_alive
from hexdsl.runtime.listening import Listener
from hexdsl.runtime.step import Draw

BODY_BYTES = 1 << 30


class Place(Header):
    """A peer of a chain: where it takes frames, and the layers `[first, end)` that it does."""

    name: str = Field(max_length=256)
    host: str = Field(max_length=256)
    port: int = Field(ge=1, le=65535)
    first: int = Field(ge=0)
    end: int = Field(ge=1)


class Greeting(Keyed):
    sender: str


class Frame(Header):
    """`work`: `count` positions from `start` of a request of the chain's first peer, for its `hop`-th peer.

    The body is the hidden state [count, width].  `reserve` are the positions that the request may come to in all.
    To the first peer: a `token`; or that the peer `by` has no room (`full`), or cannot reach the next (`broken`).
    From it: `close`, the request has ended.
    """

    kind: Literal["work", "token", "full", "broken", "close"]
    head: str
    request: int
    by: str = ""
    hop: int = 0
    chain: tuple[Place, ...] = Field((), max_length=64)
    start: int = Field(0, ge=0)
    count: int = Field(0, ge=0)
    reserve: int = Field(0, ge=0)
    draw: Draw | None = None
    token: int = 0
    bytes: int = Field(0, ge=0, le=BODY_BYTES)

    @property
    def place(self) -> Place:
        return self.chain[self.hop]

    @property
    def last(self) -> bool:
        return self.hop == len(self.chain) - 1


OnFrame = Callable[[Frame, bytearray], None]
OnName = Callable[[str], None]


class Links:
    """The outgoing connections of a peer, made when they are first used.  Nothing here waits for the other side."""

    def __init__(self, name: str, on_lost: OnName) -> None:
        self._name, self._on_lost = name, on_lost
        self._lines: dict[Place, _Line] = {}
        self._lock = threading.Lock()

    def send(self, place: Place, frame: Frame, body: bytes = b"") -> None:
        self._line(place).waiting.put((frame, body))

    def watch(self, place: Place) -> None:
        """Connects, so that the loss of the peer is noticed."""
        self._line(place)

    def _line(self, place: Place) -> _Line:
        key = place.model_copy(update={"first": 0, "end": 1})
        with self._lock:
            if key not in self._lines:
                self._lines[key] = _Line(key, self._name, self._lost)
            return self._lines[key]

    def _lost(self, line: _Line) -> None:
        with self._lock:
            if self._lines.get(line.place) is not line:
                return
            del self._lines[line.place]
        self._on_lost(line.place.name)


class _Line:
    """One outgoing connection: a thread writes, another one waits for its end."""

    def __init__(self, place: Place, name: str, on_lost: Callable[[_Line], None]) -> None:
        self.place, self._name, self._on_lost = place, name, on_lost
        self.waiting: queue.SimpleQueue[tuple[Frame, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._write, name="chain-send", daemon=True).start()

    def _write(self) -> None:
        try:
            with kv_wire.connect(self.place.host, self.place.port) as connection:
                connection.settimeout(None)
                keep_alive(connection)
                kv_wire.send(connection, Greeting(sender=self._name, key=os.environ.get(KEY_VARIABLE, "")))
                threading.Thread(target=self._wait, args=(connection,), name="chain-end", daemon=True).start()
                while True:
                    kv_wire.send(connection, *self.waiting.get())
        except OSError:
            self._on_lost(self)

    def _wait(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.recv(1)
        self._on_lost(self)


class Door:
    """Where a peer takes frames: told of each, and of each sender whose connection has ended."""

    def __init__(self, host: str, port: int, on_frame: OnFrame, on_gone: OnName) -> None:
        self._on_frame, self._on_gone = on_frame, on_gone
        Listener(host, port, "chain-door", self._serve)

    def _serve(self, connection: socket.socket) -> None:
        greeting = kv_wire.receive(connection, Greeting)
        if greeting and kv_wire.may_enter(greeting):
            self._take_all(connection, greeting.sender)

    def _take_all(self, connection: socket.socket, sender: str) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(connection)
        try:
            while frame := kv_wire.receive(connection, Frame):
                self._on_frame(frame, kv_wire.read(connection, frame.bytes))
        finally:
            self._on_gone(sender)
