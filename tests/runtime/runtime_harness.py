"""Starts real replicas and routers on loopback, and ends them by pid."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

READY_SECONDS = 120
"""For a replica to be ready; two busy cores import torch three times meanwhile."""


Reference = Callable[[Path, str, int], str]
"""Checkpoint, prompt and number of tokens to the greedy answer of transformers."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@dataclass
class Running:
    """Processes that serve a URL, and their logs."""

    url: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def spawn(self, module: str, *arguments: str, **env: str) -> None:
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        command = [sys.executable, "-m", f"hexdsl.runtime.{module}", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        log.close()

    def log(self, index: int) -> str:
        return (self.folder / f"{index}.log").read_text()

    def wait_ready(self) -> Running:
        if not until(lambda: self._ready() or self._any_dead(), READY_SECONDS) or self._any_dead():
            logs = [self.log(index) for index in range(len(self.processes))]
            self.kill()
            raise AssertionError(f"not ready: {logs}")
        return self

    def stop(self, number: int = signal.SIGTERM, ranks: Sequence[int] = (0,)) -> list[int]:
        """Sends a signal to some ranks; the exit codes of all."""
        for rank in ranks:
            self.processes[rank].send_signal(number)
        return self.codes()

    def codes(self, seconds: float = 20) -> list[int]:
        """The exit codes once all have ended; those still alive after some seconds are killed (code -9)."""
        until(lambda: all(process.poll() is not None for process in self.processes), seconds)
        self.kill()
        return [process.wait() for process in self.processes]

    def kill(self) -> None:
        self.client.close()
        for process in self.processes:
            if process.poll() is None:
                process.kill()

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.split()[0] == name))

    def complete(self, prompt: object, max_tokens: int = 16, **more: Any) -> dict[str, Any]:
        body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}
        answer = self.client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def text(self, prompt: object, max_tokens: int = 16, **more: Any) -> str:
        return str(self.complete(prompt, max_tokens, **more)["choices"][0]["text"])

    def texts(self, prompts: Sequence[str], max_tokens: int, **more: Any) -> list[str]:
        """All at once."""
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(lambda prompt: self.text(prompt, max_tokens, **more), prompts))

    def _ready(self) -> bool:
        try:
            return self.client.get("/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def _any_dead(self) -> bool:
        return any(process.poll() is not None for process in self.processes)


Stages = Sequence[tuple[int, int, int]]
"""First layer, end, and TP degree of each stage."""


def engine_config(model: Path, stages: Stages, **changes: Any) -> dict[str, Any]:
    """A replica's config; `changes` go to the fields that have their name, at the top or in kv or limits."""
    config: dict[str, Any] = {
        "format_version": "1.0",
        "replica": "r0",
        "model": {"name": "tiny", "path": str(model), "dtype": "float32"},
        "stages": [],
        "kv": {"block_tokens": 16, "blocks": 64},
        "limits": {"max_batch": 4, "max_context": 256, "max_queue": 8, "prefill_chunk_tokens": 32},
        "port": free_port(),
    }
    rank = 0
    for first, end, tp in stages:
        config["stages"].append({"layers": [first, end], "ranks": list(range(rank, rank + tp))})
        rank += tp
    for name, value in changes.items():
        group = next((g for g in (config["kv"], config["limits"]) if name in g), config)
        group[name] = value
    return config


def start_replica(folder: Path, config: dict[str, Any], **env: str) -> Running:
    """Starts every rank of a replica and waits until it is ready."""
    return spawn_replica(folder, config, **env).wait_ready()


def spawn_replica(folder: Path, config: dict[str, Any], **env: str) -> Running:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "replica.json"
    path.write_text(json.dumps(config))
    replica = Running(f"http://127.0.0.1:{config['port']}", folder)
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **env}
    for rank in range(sum(len(stage["ranks"]) for stage in config["stages"])):
        replica.spawn("worker", "--config", str(path), "--rank", str(rank), **meet)
    return replica


Listed = tuple[str, str, float] | tuple[str, str, float, str]
"""Name, URL, weight and perhaps role of a replica."""


def start_router(folder: Path, replicas: Sequence[Listed], **changes: Any) -> Running:
    """Starts a router; waits until it answers at all, ready or not."""
    folder.mkdir(parents=True, exist_ok=True)
    env = changes.pop("env", {})
    listed = [dict(zip(("name", "url", "weight", "role"), replica, strict=False)) for replica in replicas]
    config = {"format_version": "1.0", "port": free_port(), "model": "tiny", "replicas": listed, **changes}
    (folder / "router.json").write_text(json.dumps(config))
    router = Running(f"http://127.0.0.1:{config['port']}", folder)
    router.spawn("router", "--config", str(folder / "router.json"), **env)
    assert until(lambda: _answers(router), 30), router.log(0)
    return router


def _answers(router: Running) -> bool:
    try:
        return bool(router.client.get("/metrics").status_code == 200)
    except httpx.HTTPError:
        return False
