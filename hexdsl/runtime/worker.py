"""One rank of a replica: `python -m hexdsl.runtime.worker --config config/replica-0.json --rank 0`.

MASTER_ADDR and MASTER_PORT say where the ranks meet.  Rank 0 also schedules and serves HTTP.  On a GPU machine the
launcher gives each rank its GPU by CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from hexdsl.runtime.config import EngineConfig, RuntimeFault, faults_to_exit, read
from hexdsl.runtime.signals import on_stop_signal
from hexdsl.runtime.stopping import Stopping

QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
"""A lost peer is told in one line of ours, not in a library's stack trace."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.worker", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    options = parser.parse_args(argv)
    with faults_to_exit("worker"):
        config = read(options.config, EngineConfig)
        _check(config, options.rank)
        stopping = Stopping()
        on_stop_signal(stopping.ask)
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        from hexdsl.runtime.process import run  # torch's threads must start after the signals are blocked

        run(config, options.rank, stopping)


def _check(config: EngineConfig, rank: int) -> None:
    if not 0 <= rank < config.world:
        raise RuntimeFault(f"--rank {rank}: replica {config.replica} has ranks 0 to {config.world - 1}")
    folder = config.model.folder
    if not (folder / "config.json").is_file():
        raise RuntimeFault(f"{folder}: no checkpoint here (a folder with config.json and safetensors is wanted)")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise RuntimeFault(f"{name} is not set: it says where the ranks of replica {config.replica} meet")
    if not os.environ["MASTER_PORT"].isdigit():
        raise RuntimeFault(f"MASTER_PORT is `{os.environ['MASTER_PORT']}`, not a port number")


if __name__ == "__main__":
    main()
