"""The real engine: a tiny Llama in two uneven stages, two processes over gloo, answers over HTTP."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from launch_harness import Running, alive, ports_in_a_row, wait_for

from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.registry import lower
from hexdsl.targets.render import render

tiny = pytest.importorskip("hexdsl.runtime.tiny", reason="needs the extra `run`")


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)


def test_two_uneven_stages_answer(uneven: Plan, tmp_path: Path) -> None:
    tiny.make(tmp_path / "specs" / "models" / "tiny", layers=4)
    launch = lower(uneven, Target(name="torch", ports=ports_in_a_row(3)), tmp_path / "specs")
    render(uneven, launch, tmp_path / "out")
    running = Running(tmp_path / "out", sys.executable)
    try:
        wait_for(lambda: "ready: " in running.text or running.process.poll() is not None, lambda: running.text, 120)
        stages = ask(f"{launch.endpoint}/health")["replicas"][0]["stages"]
        answer = ask(f"{launch.endpoint}/v1/completions", {"prompt": "A tiny model", "max_tokens": 8, "temperature": 0})
    finally:
        running.process.send_signal(signal.SIGINT)
        assert running.ends() == 130, running.text
    pids = [rank["pid"] for stage in stages for rank in stage["ranks"]]
    assert [stage["layers"] for stage in stages] == [[0, 3], [3, 4]]
    assert len(set(pids)) == 2
    assert answer["usage"]["completion_tokens"] == 8
    assert not any(alive(pid) for pid in pids)
