"""A TCP port that takes frames from other processes of the deployment, each connection in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from hexdsl.runtime.kv_wire import PATIENCE, WireError

CONNECTIONS = 1024
"""That may be open at once; others wait in the kernel's queue."""


class Listener:
    """`serve` gets each connection, closed afterwards; a peer that breaks off or breaks the agreement ends only that.

    `port` 0 takes any that is free; `address` says which.
    """

    def __init__(self, host: str, port: int, name: str, serve: Callable[[socket.socket], None]) -> None:
        self._name, self._serve = name, serve
        self._seats = threading.Semaphore(CONNECTIONS)
        family = socket.getaddrinfo(host, port or None, type=socket.SOCK_STREAM)[0][0]
        self._server = socket.create_server((host, port), family=family)
        self.address: tuple[str, int] = (host, self._server.getsockname()[1])
        threading.Thread(target=self._accept, name=name, daemon=True).start()

    def _accept(self) -> None:
        while True:
            self._seats.acquire()
            try:
                connection = self._server.accept()[0]
            except OSError:  # the other side gave up at once, or there are no descriptors left for a moment
                self._seats.release()
                time.sleep(0.05)
                continue
            threading.Thread(target=self._take, args=(connection,), name=self._name, daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError, WireError):
                connection.settimeout(PATIENCE)
                self._serve(connection)
        finally:
            self._seats.release()
