"""A rank's sending side: takes KV out of the pools as it is computed, and sends it while the rank computes on."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hexdsl.runtime import kv_wire
from hexdsl.runtime.kv_codec import name_of, pack
from hexdsl.runtime.kv_layout import Held, Range
from hexdsl.runtime.step import Peer, Send

PIECE_TOKENS = 4096
"""Positions in one piece at most, so that none comes near the wire's limit."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """[tokens, 2, heads, head_dim] of one layer, copied out of its pool."""

    layer: int
    heads: Range
    positions: Range
    bits: int
    kv: Tensor


class Sender:
    """`send` and `close` are called by the rank's own thread; each connection has a thread that writes."""

    def __init__(self, pools: Mapping[int, Tensor], held: Held, on_broken: Callable[[str], None]) -> None:
        self._pools, self._held, self._on_broken = pools, held, on_broken
        self._lines: dict[tuple[str, Peer], Line] = {}

    def send(self, move: Send) -> None:
        """Copies this rank's part of the positions and queues it for each peer that holds some of it.

        A move without positions only connects, so that the peers notice if this rank dies.
        """
        for peer in move.peers:
            layers, heads = self._held.share(peer)
            if layers and heads[0] < heads[1]:
                line = self._line(move.transfer, peer)
                if move.start < move.end:
                    line.put(list(self._parcels(move, layers, heads)))

    def close(self, transfer: str) -> None:
        for key in [key for key in self._lines if key[0] == transfer]:
            self._lines.pop(key).end()

    def _line(self, transfer: str, peer: Peer) -> Line:
        key = (transfer, peer)
        if key not in self._lines:
            self._lines[key] = Line(transfer, peer, self._on_broken)
        return self._lines[key]

    def _parcels(self, move: Send, layers: range, heads: Range) -> Iterator[Parcel]:
        mine = slice(heads[0] - self._held.heads[0], heads[1] - self._held.heads[0])
        for start in range(move.start, move.end, PIECE_TOKENS):
            part = (start, min(start + PIECE_TOKENS, move.end))
            for layer in layers:
                kv = _gather(self._pools[layer], move.blocks, part)[:, :, mine]
                yield Parcel(layer, heads, part, move.bits, kv)


class Line:
    """A connection to one peer for one transfer."""

    def __init__(self, transfer: str, peer: Peer, on_broken: Callable[[str], None]) -> None:
        self._transfer, self._peer, self._on_broken = transfer, peer, on_broken
        self._waiting: queue.SimpleQueue[list[Parcel] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="kv-send", daemon=True).start()

    def put(self, parcels: list[Parcel]) -> None:
        self._waiting.put(parcels)

    def end(self) -> None:
        self._waiting.put(None)

    def _run(self) -> None:
        try:
            with kv_wire.connect(self._peer.host, self._peer.port) as connection:
                kv_wire.send(connection, kv_wire.hello(self._transfer))
                while parcels := self._waiting.get():
                    for parcel in parcels:
                        _write(connection, parcel)
        except OSError:
            self._on_broken(self._transfer)


def _write(connection: socket.socket, parcel: Parcel) -> None:
    payload = pack(parcel.kv, parcel.bits)
    header = kv_wire.Piece(
        layer=parcel.layer, heads=parcel.heads, positions=parcel.positions, bits=parcel.bits,  # type: ignore[arg-type]
        dtype=name_of(parcel.kv.dtype), bytes=len(payload),
    )  # fmt: skip
    kv_wire.send(connection, header, payload)


def _gather(pool: Tensor, table: tuple[int, ...], part: Range) -> Tensor:
    """[tokens, 2, heads, head_dim] of some positions."""
    positions = torch.arange(*part)
    blocks = torch.tensor(table)[positions // pool.shape[2]]
    return pool[blocks.to(pool.device), :, (positions % pool.shape[2]).to(pool.device)]
