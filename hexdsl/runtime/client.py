"""How the processes of a service ask each other over HTTP.  No torch."""

from __future__ import annotations

import os
import socket

import httpx

KEY_VARIABLE = "HEXC_API_KEY"

CONNECT = 2.0
"""Seconds for a process to accept a connection, or to tell its health."""

KEEP_ALIVE = (("SO_KEEPALIVE", 1), ("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""A host that vanishes without a word is noticed after about 25 s."""


def own_key() -> dict[str, str]:
    """The headers with which this process asks others of its service."""
    key = os.environ.get(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def make_client() -> httpx.AsyncClient:
    """A replica may think for long before its first byte, so only connecting is timed.

    Connections are given up sooner than the replica's server gives them up (5 s), so that none is used that has just
    been closed.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=2)
    options = [
        (socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in KEEP_ALIVE
        if hasattr(socket, name)
    ]
    transport = httpx.AsyncHTTPTransport(limits=limits, socket_options=options)
    return httpx.AsyncClient(timeout=httpx.Timeout(None, connect=CONNECT), transport=transport, trust_env=False)
