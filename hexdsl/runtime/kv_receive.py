"""A rank's receiving side: a TCP server that writes KV from another replica into blocks set aside for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hexdsl.runtime import kv_wire
from hexdsl.runtime.kv_codec import DTYPES, bytes_of, unpack
from hexdsl.runtime.kv_layout import Held
from hexdsl.runtime.kv_wire import Piece, WireError, Word
from hexdsl.runtime.lifeline import keep_alive
from hexdsl.runtime.listening import Listener
from hexdsl.runtime.step import Open

OnNotice = Callable[[str, Word, int], None]
"""Told a transfer, what happened to it, and on which rank."""


@dataclass(slots=True)
class Arriving:
    """Where a transfer's KV goes, and how many units are still to come."""

    blocks: Tensor
    tokens: int
    left: int


class Receiver:
    """`open` and `close` are called by the rank's own thread, in the order of the steps.

    A transfer that no step has opened yet is waited for: its KV may be quicker than the step.
    """

    def __init__(self, host: str, pools: Mapping[int, Tensor], held: Held, on_notice: OnNotice) -> None:
        self._pools, self._held, self._on_notice = pools, held, on_notice
        self._open: dict[str, Arriving] = {}
        self._changed = threading.Condition()
        self.address = Listener(host, 0, "kv-receive", self._serve).address

    def open(self, move: Open) -> None:
        with self._changed:
            self._open[move.transfer] = Arriving(torch.tensor(move.blocks), move.tokens, self._held.units(move.tokens))
            self._changed.notify_all()

    def close(self, transfer: str) -> None:
        """Once this returns, nothing is written for the transfer any more."""
        with self._changed:
            self._open.pop(transfer, None)

    def _serve(self, connection: socket.socket) -> None:
        greeting = kv_wire.receive(connection, kv_wire.Hello)
        if greeting is None or not kv_wire.may_enter(greeting):
            return
        if greeting.notice:
            self._on_notice(greeting.transfer, greeting.notice, greeting.rank)
        else:
            self._take_all(connection, greeting.transfer)

    def _take_all(self, connection: socket.socket, transfer: str) -> None:
        """Writes what comes.  A stream that ends before this rank has everything has broken the transfer."""
        keep_alive(connection)  # without a time limit: the sender may compute for long between two pieces
        try:
            while piece := kv_wire.receive(connection, Piece):
                shape = self._check(piece)
                data = kv_wire.read(connection, piece.bytes)
                kv = unpack(data, shape, DTYPES[piece.dtype], piece.bits)
                if self._write(transfer, piece, kv):
                    self._on_notice(transfer, "done", -1)
        finally:
            if self._is_unfinished(transfer):
                self._on_notice(transfer, "broken", -1)

    def _check(self, piece: Piece) -> tuple[int, int, int, int]:
        """The shape of a piece that lies within what this rank holds.  Raises `WireError`."""
        pool = self._pools.get(piece.layer)
        (first, end), (begin, stop) = piece.heads, piece.positions
        if pool is None or not self._held.heads[0] <= first < end <= self._held.heads[1] or not 0 <= begin < stop:
            raise WireError("a piece that this rank does not hold")
        shape = (stop - begin, 2, end - first, int(pool.shape[-1]))
        if piece.bytes != bytes_of(shape, DTYPES[piece.dtype], piece.bits):
            raise WireError("a piece of another size than its header tells")
        return shape

    def _write(self, transfer: str, piece: Piece, kv: Tensor) -> bool:
        """Whether this was the last piece.  Raises `WireError` for a transfer that is not open."""
        with self._changed:
            if not self._changed.wait_for(lambda: transfer in self._open, kv_wire.PATIENCE):
                raise WireError("a transfer that nobody opened")
            arriving, pool = self._open[transfer], self._pools[piece.layer]
            if piece.positions[1] > arriving.tokens:
                raise WireError("more positions than were agreed")
            positions = torch.arange(*piece.positions)
            blocks = arriving.blocks[positions // pool.shape[2]].to(pool.device)
            heads = slice(piece.heads[0] - self._held.heads[0], piece.heads[1] - self._held.heads[0])
            pool[blocks, :, (positions % pool.shape[2]).to(pool.device), heads] = kv.to(pool.device, pool.dtype)
            arriving.left -= (piece.heads[1] - piece.heads[0]) * len(positions)
            return arriving.left == 0

    def _is_unfinished(self, transfer: str) -> bool:
        with self._changed:
            return transfer in self._open and self._open[transfer].left > 0
