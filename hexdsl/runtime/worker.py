"""One rank of a replica: `python -m hexdsl.runtime.worker --config config/replica-0.json --rank 0`.

MASTER_ADDR and MASTER_PORT say where the ranks meet.  Rank 0 also schedules and serves HTTP.  On a GPU machine the
launcher gives each rank its GPU by CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost peer is told in our one line
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist

from hexdsl.runtime.checkpoint import Checkpoint, open_checkpoint
from hexdsl.runtime.config import EngineConfig, RuntimeFault, faults_to_exit, read
from hexdsl.runtime.engine import Engine
from hexdsl.runtime.lifeline import Hub, Line
from hexdsl.runtime.model import Stage, build
from hexdsl.runtime.parallel import Team
from hexdsl.runtime.pipe import pipe_for
from hexdsl.runtime.rank import Rank
from hexdsl.runtime.text import load_tokenizer

TIMEOUT = timedelta(minutes=5)
"""For the ranks to meet, and for one step; idle ranks hear a beat more often."""

LEAVE = 5.0
"""Seconds that the other ranks have to end."""


class Worker:
    """What a rank has while it runs."""

    def __init__(self, config: EngineConfig, rank: int) -> None:
        self.config, self.rank = config, rank
        self.name = f"{config.replica} rank {rank}"
        self._failing = threading.Lock()

    def fail(self, why: str) -> NoReturn:
        """Ends the process at once with one line on stderr: threads may be stuck in a receive."""
        self._failing.acquire()
        print(f"{self.name}: {why}", file=sys.stderr, flush=True)
        os._exit(1)

    def lost(self, other: int) -> None:
        self.fail(f"rank {other} is gone; stopping")

    def guard(self, work: Callable[[], None]) -> None:
        """Runs `work`; a failure ends the process.  A lost peer is best named by the lifeline, so it goes first."""
        try:
            work()
        except Exception as error:
            time.sleep(0.5)
            self.fail(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.worker", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    options = parser.parse_args(argv)
    with faults_to_exit("worker"):
        config = read(options.config, EngineConfig)
        if not 0 <= options.rank < config.world:
            raise RuntimeFault(f"--rank {options.rank}: {options.config} has ranks 0 to {config.world - 1}")
        run(Worker(config, options.rank))
