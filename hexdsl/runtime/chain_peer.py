"""A peer of chains: `python -m hexdsl.runtime.chain_peer --config config/peer-0.json`.

It holds some layers of a model, computes them for every request that comes by, and answers the requests whose chain
begins with it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from hexdsl.runtime.chain_config import PeerConfig
from hexdsl.runtime.config import RuntimeFault, faults_to_exit, read
from hexdsl.runtime.signals import on_stop_signal
from hexdsl.runtime.stopping import Stopping
from hexdsl.runtime.worker import QUIET


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.chain_peer", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(argv)
    with faults_to_exit("peer"):
        config = read(options.config, PeerConfig)
        if not (config.model.folder / "config.json").is_file():
            wanted = "no checkpoint here (a folder with config.json and safetensors is wanted)"
            raise RuntimeFault(f"{config.model.folder}: {wanted}")
        stopping = Stopping()
        on_stop_signal(stopping.ask)
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        from hexdsl.runtime.chain_process import run  # torch's threads must start after the signals are blocked

        run(config, stopping)


if __name__ == "__main__":
    main()
