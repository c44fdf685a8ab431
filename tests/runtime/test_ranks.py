"""Ranks live and die together, and say why in one line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from runtime_harness import Running, engine_config, spawn_replica, start_replica, until
from safetensors.torch import load_file, save_file


def lines(running: Running, rank: int) -> list[str]:
    """What a rank said after it was ready."""
    return [line for line in running.log(rank).splitlines() if " ready " not in line]


def test_a_dead_rank_ends_the_idle_others(llama: Path, tmp_path: Path) -> None:
    replica = start_replica(tmp_path, engine_config(llama, [(0, 2, 1), (2, 4, 2)]))
    assert replica.stop(signal.SIGKILL, ranks=(1,)) == [1, -9, 1]
    assert [lines(replica, rank) for rank in (0, 2)] == [
        ["r0 rank 0: rank 1 is gone; stopping"],
        ["r0 rank 2: rank 1 is gone; stopping"],
    ]


def test_a_dead_leader_ends_the_others_at_work(llama: Path, tmp_path: Path) -> None:
    replica = start_replica(tmp_path, engine_config(llama, [(0, 2, 1), (2, 4, 1)], max_context=1024))
    with replica.client.stream("POST", "/v1/completions", json={"prompt": "a", "max_tokens": 900, "stream": True}) as s:
        said = s.iter_lines()
        next(said)
        assert replica.stop(signal.SIGKILL) == [-9, 1]
    assert lines(replica, 1) == ["r0 rank 1: rank 0 is gone; stopping"]


def test_a_stop_of_any_rank_stops_all_and_tells_the_clients(llama: Path, tmp_path: Path) -> None:
    replica = start_replica(tmp_path, engine_config(llama, [(0, 2, 1), (2, 4, 1)], max_context=1024))
    body = {"prompt": "a", "max_tokens": 900}
    whole: list[int] = []
    url = f"{replica.url}/v1/completions"
    waiting = threading.Thread(target=lambda: whole.append(httpx.post(url, json=body, timeout=30).status_code))
    waiting.start()
    with replica.client.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        said = answer.iter_lines()
        next(said)
        assert until(lambda: replica.metric("hexc_requests_running") == 2, 5)
        replica.processes[1].send_signal(signal.SIGTERM)
        rest = [line for line in said if line]
    waiting.join(10)
    assert replica.codes() == [0, 0]
    assert json.loads(rest[-2].removeprefix("data: "))["error"]["message"] == "the server is stopping"
    assert rest[-1] == "data: [DONE]"
    assert [lines(replica, rank) for rank in (0, 1)] == [[], []]
    assert whole == [503]


def test_a_rank_that_cannot_load_ends_the_others(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.3.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    replica = spawn_replica(tmp_path, engine_config(folder, [(0, 2, 1), (2, 4, 1)]))
    assert replica.codes(60) == [1, 2]
    assert lines(replica, 0) == ["r0 rank 0: rank 1 is gone; stopping"]
    assert lines(replica, 1) == [f"worker: {folder}: the checkpoint has no tensor `model.layers.3.mlp.up_proj.weight`"]


def run_worker(config: Path, rank: int = 0, **env: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "hexdsl.runtime.worker", "--config", str(config), "--rank", str(rank)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": "2.0"}, "format_version: Input should be '1.0'"),
        ({"blocks": 0}, "kv.blocks: Input should be greater than or equal to 1"),
        ({"prefill_chunk_tokens": 2}, "limits: prefill_chunk_tokens must be at least max_batch"),
        ({"stages": [{"layers": [1, 4], "ranks": [0]}]}, "without gaps: [1, 4] after 0"),
        ({"stages": [{"layers": [0, 4], "ranks": [1]}]}, "ranks must be numbered"),
        ({"mode": "fast"}, "mode: Extra inputs are not permitted"),
        ({"stages": [{"layers": [0, 4], "ranks": [0]}]}, "--rank 1: replica r0 has ranks 0 to 0"),
        ({}, "MASTER_ADDR is not set"),
    ],
)
def test_a_bad_config_is_one_line_and_code_2(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    stages = {name: change.pop(name) for name in ("stages",) if name in change}
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "replica.json"
    path.write_text(json.dumps({**engine_config(tmp_path, [(0, 2, 1), (2, 4, 1)], **change), **stages}))
    code, said = run_worker(path, rank=1)
    assert (code, said.count("\n")) == (2, 1)
    assert words in said


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"\xff\xfe", "not JSON"), (b"[1]", "valid")])
def test_a_file_that_is_no_config(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "replica.json"
    if content is not None:
        path.write_bytes(content)
    code, said = run_worker(path)
    assert (code, said.count("\n")) == (2, 1)
    assert words in said


def test_a_missing_checkpoint_is_one_line_and_code_2(tmp_path: Path) -> None:
    path = tmp_path / "replica.json"
    path.write_text(json.dumps(engine_config(tmp_path / "none", [(0, 4, 1)])))
    code, said = run_worker(path, MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    assert (code, said) == (
        2,
        f"worker: {tmp_path}/none: no checkpoint here (a folder with config.json and safetensors is wanted)\n",
    )
