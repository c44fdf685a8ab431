"""One TCP connection from every rank to rank 0, so that a death is noticed at once, whatever the ranks wait for.

A collective whose peer has died may block for ever (NCCL) or fail only where it touches the peer (gloo).  The kernel
closes a dead process's sockets, so the end of the stream is the signal; keep-alive covers a lost host.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import selectors
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

KEY = "hexc/lifeline"
TOKEN = 32
STOP = b"s"
PATIENCE = 10.0
"""Seconds for a connection to say who it is."""

OnLost = Callable[[int], None]


class Store(Protocol):
    """torch's key-value store at the meeting place: strings in, bytes out, `get` waits."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def wait(self, keys: list[str], timeout: timedelta) -> None: ...


class Hub:
    """Rank 0's side: accepts the others, reports the first that is lost, hears requests to stop."""

    def __init__(self, store: Store, host: str, world: int, on_lost: OnLost, on_stop: Callable[[], None]) -> None:
        self._world, self._on_lost, self._on_stop = world, on_lost, on_stop
        self._closing = threading.Event()
        self._token = secrets.token_hex(TOKEN // 2)
        self._peers: dict[int, socket.socket] = {}
        self._server = socket.create_server((host, 0), family=_family(host))
        self._thread = threading.Thread(target=self._run, name="lifeline", daemon=True)
        store.set(KEY, f"{self._server.getsockname()[1]} {self._token}")
        self._thread.start()

    def expect_the_end(self) -> None:
        """From now on a peer that leaves is not lost."""
        self._closing.set()

    def wait(self, seconds: float) -> bool:
        """Whether all peers have left within some seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with self._server:
            while len(self._peers) < self._world - 1:
                self._admit(self._server.accept()[0])
        self._watch()

    def _admit(self, peer: socket.socket) -> None:
        peer.settimeout(PATIENCE)
        with contextlib.suppress(OSError, ValueError):
            token, _, rank = _read_line(peer).partition(" ")
            if hmac.compare_digest(token, self._token):
                keep_alive(peer)
                self._peers[int(rank)] = peer
                return
        peer.close()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for rank, peer in self._peers.items():
                selector.register(peer, selectors.EVENT_READ, rank)
            while selector.get_map():
                for key, _ in selector.select():
                    self._hear(selector, self._peers[key.data], key.data)

    def _hear(self, selector: selectors.BaseSelector, peer: socket.socket, rank: int) -> None:
        heard = _receive(peer)
        if heard == STOP:
            self._on_stop()
        elif not heard:
            selector.unregister(peer)
            if not self._closing.is_set():
                self._tell(rank)
                self._on_lost(rank)

    def _tell(self, lost: int) -> None:
        for peer in self._peers.values():
            with contextlib.suppress(OSError):
                peer.sendall(f"{lost}\n".encode())


class Line:
    """Another rank's side: reports who was lost (rank 0, or whom rank 0 names), and can ask rank 0 to stop."""

    def __init__(self, store: Store, host: str, rank: int, on_lost: OnLost) -> None:
        port, token = store.get(KEY).decode().split()
        self._closing = threading.Event()
        self._on_lost = on_lost
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self._socket.sendall(f"{token} {rank}\n".encode())
        keep_alive(self._socket)
        threading.Thread(target=self._run, name="lifeline", daemon=True).start()

    def ask_to_stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(STOP)

    def close(self) -> None:
        self._closing.set()
        self._socket.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            lost = _read_line(self._socket)
            if not self._closing.is_set():
                self._on_lost(int(lost or 0))


def _receive(peer: socket.socket) -> bytes:
    try:
        return peer.recv(1)
    except OSError:
        return b""


def _read_line(peer: socket.socket) -> str:
    """Up to the end of the line, or of the stream; 100 bytes at most."""
    line = b""
    while len(line) < 100 and (byte := peer.recv(1)) not in (b"", b"\n"):
        line += byte
    return line.decode("ascii")


def _family(host: str) -> socket.AddressFamily:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]


def keep_alive(peer: socket.socket) -> None:
    """A host that vanishes without closing is noticed after about 25 s."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
