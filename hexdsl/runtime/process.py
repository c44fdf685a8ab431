"""The life of a rank's process: meet the others, load, run steps, leave together."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from hexdsl.runtime.checkpoint import Checkpoint, open_checkpoint
from hexdsl.runtime.config import EngineConfig, RuntimeFault
from hexdsl.runtime.engine import Engine
from hexdsl.runtime.inside import Inside
from hexdsl.runtime.kv_codec import DTYPES, bytes_of
from hexdsl.runtime.kv_layout import held_by
from hexdsl.runtime.lifeline import Hub, Line, Store
from hexdsl.runtime.model import build
from hexdsl.runtime.mover import Mover, own_address, peers_of
from hexdsl.runtime.parallel import Team, head_dim
from hexdsl.runtime.pipe import pipe_for
from hexdsl.runtime.rank import Rank
from hexdsl.runtime.server import Replica, make_app, replica_of
from hexdsl.runtime.stopping import Stopping
from hexdsl.runtime.text import load_tokenizer, reader
from hexdsl.runtime.web import Server, bind

TIMEOUT = timedelta(minutes=5)
"""For the ranks to meet, and for one step; idle ranks hear a beat more often."""

LOADING = timedelta(hours=1)
"""For all ranks to load their weights."""

LEAVE = 10.0
"""Seconds that the engine and the other ranks have to end."""

_failing = threading.Lock()


class Process:
    """One rank: its config, its meeting place, its store."""

    def __init__(self, config: EngineConfig, rank: int, stopping: Stopping) -> None:
        self.config, self.rank, self.stopping = config, rank, stopping
        self.host = os.environ["MASTER_ADDR"]
        self.name = f"{config.replica} rank {rank}"
        self.store: Store = self._meet()

    def _meet(self) -> Store:
        """The store at the meeting place.  It and gloo listen on that address only, not on all interfaces."""
        port = int(os.environ["MASTER_PORT"])
        if self.host.startswith("127.") or self.host in ("localhost", "::1"):
            loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        listening = _listen(self.host, port) if self.rank == 0 else None
        try:
            store = TCPStore(self.host, port, self.config.world, self.rank == 0, TIMEOUT, master_listen_fd=listening)
            backend = "gloo" if self.config.device == "cpu" else "cpu:gloo,cuda:nccl"
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.config.world, timeout=TIMEOUT)
        except (dist.DistError, RuntimeError) as error:
            raise RuntimeFault(f"{self.name}: cannot meet the others at {self.host}:{port}: {_line(error)}") from None
        return PrefixStore("hexc", store)

    def fail(self, why: str) -> NoReturn:
        """Ends the process at once with one line on stderr: other threads may be stuck in a receive."""
        _failing.acquire()
        print(f"{self.name}: {why}", file=sys.stderr, flush=True)
        os._exit(1)

    def lost(self, other: int) -> None:
        self.fail(f"rank {other} is gone; stopping")

    def guard(self, work: Callable[[], None]) -> None:
        """Runs `work`; a failure ends the process.  A lost peer is best named by the lifeline, so that goes first."""
        try:
            work()
        except RuntimeFault:
            raise
        except Exception as error:
            time.sleep(0.5)
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.fail(f"{type(error).__name__}: {_line(error)} ({Path(place.filename).name}:{place.lineno})")

    def load(self, checkpoint: Checkpoint) -> Rank:
        """This rank's part, ready for steps; waits for all others to be ready too."""
        config, rank = self.config, self.rank
        index = config.stage_of(rank)
        stage = build(config, checkpoint, rank, self._team(index))
        members = config.stages[index]
        first, end = members.layers
        sizes = f"{stage.part.weight_bytes / 1e6:.0f} MB weights, {stage.kv_bytes / 1e6:.0f} MB KV"
        print(f"{self.name}: layers {first}-{end - 1} of {config.model.name} ready ({sizes})", flush=True)
        last = index == len(config.stages) - 1
        here = own_address(self.host, int(os.environ["MASTER_PORT"]))
        held = held_by(config, rank, checkpoint.config.num_key_value_heads)
        mover = Mover(stage, held, rank, here, self.store)
        return Rank(stage, pipe_for(config, rank, checkpoint.config.hidden_size), mover, last, rank == members.ranks[0])

    def _team(self, index: int) -> Team:
        """Every rank takes part in making every group, in the same order."""
        groups = [dist.new_group(list(s.ranks)) if s.tp > 1 else None for s in self.config.stages]
        members = self.config.stages[index].ranks
        return Team(members.index(self.rank), len(members), groups[index])

    def announce(self) -> None:
        """Tells rank 0 that this rank is ready, and waits until all are."""
        self._report()
        self.store.wait(["go"], LOADING)

    def gather(self) -> list[dict[str, Any]]:
        """Rank 0: waits for all; the stages with their ranks, as /health shows them."""
        self._report()
        self.store.wait([f"ready/{rank}" for rank in range(self.config.world)], LOADING)
        self.store.set("go", "1")
        return [
            {"layers": list(s.layers), "ranks": [json.loads(self.store.get(f"ready/{rank}")) for rank in s.ranks]}
            for s in self.config.stages
        ]

    def _report(self) -> None:
        about = {"rank": self.rank, "pid": os.getpid(), "host": socket.gethostname()}
        self.store.set(f"ready/{self.rank}", json.dumps(about))


def run(config: EngineConfig, rank: int, stopping: Stopping) -> NoReturn:
    """Runs a rank until it is stopped.  Raises `RuntimeFault` for what the user can put right."""
    checkpoint = open_checkpoint(config.model.folder)
    if rank > 0:
        process = Process(config, rank, stopping)
        process.guard(lambda: follow(process, checkpoint))
    else:
        listener = bind(config.host, config.port)
        process = Process(config, rank, stopping)
        process.guard(lambda: lead(process, checkpoint, listener))
    sys.stdout.flush()
    os._exit(0)  # nothing is left to save, and torch takes a second to be taken down


def follow(process: Process, checkpoint: Checkpoint) -> None:
    line = Line(process.store, process.host, process.rank, process.lost)
    rank = process.load(checkpoint)
    process.announce()
    process.stopping.when_asked(line.ask_to_stop)
    rank.follow()
    line.close()


def lead(process: Process, checkpoint: Checkpoint, listener: socket.socket) -> None:
    config, stopping = process.config, process.stopping
    # Two tokenizers: one may be used by one thread at a time, and the engine's thread decodes while others encode.
    tokenizer, decoder = load_tokenizer(config.model.folder), load_tokenizer(config.model.folder)
    hub = Hub(process.store, process.host, config.world, process.lost, stopping.ask)
    rank = process.load(checkpoint)
    engine = Engine(config, rank, reader(decoder), checkpoint.end_tokens)
    rank.mover.on_notice = engine.heard
    replica = replica_of(engine, tokenizer, checkpoint.config.vocab_size, process.gather())
    server = Server(make_app(replica, inside(process, checkpoint, replica).routes()))

    def stop() -> None:
        hub.expect_the_end()
        engine.stop()
        server.end()

    stopping.when_asked(stop)
    thread = threading.Thread(target=process.guard, args=(engine.run,), name="engine", daemon=True)
    thread.start()
    server.run(sockets=[listener])
    thread.join(LEAVE)
    if thread.is_alive() or not hub.wait(LEAVE):
        process.fail("the other ranks did not stop in time")


def inside(process: Process, checkpoint: Checkpoint, replica: Replica) -> Inside:
    """What other processes of the service may ask of rank 0."""
    config, model = process.config, checkpoint.config
    heads = model.num_key_value_heads
    peers = peers_of(process.store, lambda rank: held_by(config, rank, heads), config.world)

    def kv_bytes(tokens: int, bits: int) -> int:
        shape = (tokens, 2, heads, head_dim(model))
        return int(model.num_hidden_layers) * bytes_of(shape, DTYPES[config.model.dtype], bits)

    return Inside(replica, peers, kv_bytes)


def _listen(host: str, port: int) -> int:
    """A file descriptor, for a C++ library to own."""
    bound = bind(host, port)
    bound.listen()
    return bound.detach()


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or "no details"
