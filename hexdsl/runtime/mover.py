"""A rank's part in moving KV between replicas: what comes for it, what it sends, and its word to rank 0."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

from hexdsl.runtime import kv_wire
from hexdsl.runtime.kv_layout import Held
from hexdsl.runtime.kv_receive import OnNotice, Receiver
from hexdsl.runtime.kv_send import Sender
from hexdsl.runtime.kv_wire import Word
from hexdsl.runtime.lifeline import Store
from hexdsl.runtime.model import Stage
from hexdsl.runtime.step import Close, Open, Peer, Send, Step


class Mover:
    """`before` and `after` a step's computation.  `on_notice` is rank 0's; other ranks tell it over TCP."""

    def __init__(self, stage: Stage, held: Held, rank: int, host: str, store: Store) -> None:
        self._rank, self._store, self._held = rank, store, held
        self.on_notice: OnNotice = self._tell_rank_0
        self._receiver = Receiver(host, stage.pools, held, self._hear)
        self._sender = Sender(stage.pools, held, lambda transfer: self._hear(transfer, "broken", -1))
        self._store.set(f"kv/{rank}", json.dumps(self._receiver.address))

    def before(self, step: Step) -> None:
        for move in step.moves:
            if isinstance(move, Open):
                self._receiver.open(move)
            elif isinstance(move, Close):
                self._receiver.close(move.transfer)
                self._sender.close(move.transfer)

    def after(self, step: Step) -> None:
        for move in step.moves:
            if isinstance(move, Send):
                self._sender.send(move)

    def _hear(self, transfer: str, word: Word, rank: int) -> None:
        """A notice of another rank, or of this one (-1)."""
        self.on_notice(transfer, word, self._rank if rank < 0 else rank)

    def _tell_rank_0(self, transfer: str, word: Word, rank: int) -> None:
        host, port = json.loads(self._store.get("kv/0"))
        kv_wire.notify(host, port, transfer, word, rank)


def peers_of(store: Store, held: Callable[[int], Held], world: int) -> tuple[Peer, ...]:
    """Every rank with its address, once all have told theirs."""
    addresses = [json.loads(store.get(f"kv/{rank}")) for rank in range(world)]
    return tuple(Peer(host, port, held(rank).layers, held(rank).heads) for rank, (host, port) in enumerate(addresses))


def own_address(host: str, port: int) -> str:
    """This machine's address as the machine at `host` sees it."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # chooses the way, sends nothing
        return str(probe.getsockname()[0])
