"""A bundle of two replicas loses one, is re-planned, and goes on: real processes, and commands as a user gives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_harness import Running, free_port, until

from hexdsl.api import compile, load
from hexdsl.ir.launch import Launch

SPEC = """
gpu core {{ memory = 64MB, reserve = 1MB, bandwidth = 10GB/s, fp32 = 60GFLOP/s }}
cluster here {{ nodes box {{ count = 2, gpus = core }} }}
model tiny {{ config = "{model}/config.json", path = "{model}", weights = fp32 }}
workload chat {{ arrivals = poisson(2req/s), prompt = 40tok, output = 40tok }}
serve small {{
  model = tiny, on = here, workload = chat, context = 256tok, max_batch = 8
  replicas >= 2
  maximize goodput
  target torch {{ launcher = local, ports = {port} }}
}}
"""
PROMPTS = [f"{word} tiny model says a few words" for word in ("A", "One", "No", "The", "Some", "This")]


@pytest.fixture
def bundle(llama: Path, tmp_path: Path) -> Path:
    spec = tmp_path / "small.hex"
    spec.write_text(SPEC.format(model=llama, port=free_port()))
    compile(load(spec, allow=[llama]), tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def service(bundle: Path, tmp_path: Path) -> Iterator[dict[str, Running]]:
    """The bundle's processes, each started as its launch.json says."""
    launch = Launch.model_validate_json((bundle / "launch.json").read_text())
    found: dict[str, Running] = {}
    try:
        for process in launch.processes:
            folder = tmp_path / process.name
            folder.mkdir()
            url = process.ready.url.removesuffix("/health") if process.ready else ""
            running = found[process.name] = Running(url, folder)
            with (folder / "0.log").open("wb") as log:
                env = {**os.environ, **dict(process.env)}
                command = [sys.executable, *process.argv[1:]]
                running.processes.append(subprocess.Popen(command, cwd=bundle, stdout=log, stderr=log, env=env))
        for running in found.values():
            running.wait_ready()
        yield found
    finally:
        for running in found.values():
            running.kill()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HEXC_PYTHON": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=env)


def test_a_lost_replica_is_planned_around_and_no_request_is_lost(
    service: dict[str, Running], bundle: Path, tmp_path: Path
) -> None:
    router = service["router"]
    first, second = (running for name, running in service.items() if name != "router")
    whole = {prompt: second.text(prompt, 48) for prompt in PROMPTS}
    asked = [subprocess.Popen(_ask(router.url, prompt), stdout=subprocess.PIPE, text=True) for prompt in PROMPTS]
    assert until(lambda: first.metric("hexc_requests_running") > 0, 20)
    first.kill()
    answers = [json.loads(process.communicate(timeout=60)[0])["choices"][0]["text"] for process in asked]
    assert answers == list(whole.values())

    change = tmp_path / "change"
    made = run(sys.executable, "-m", "hexdsl", "replan", str(bundle), "--lost", "r0", "-o", str(change), "--json")
    assert made.returncode == 0, made.stderr
    fates = {m["replica"]: m["fate"] for m in json.loads(made.stdout)["replicas"]}
    assert fates == {"r0": "lost", "r1": "goes on"}
    applied = run("bash", str(change / "apply.sh"))
    assert applied.returncode == 0, applied.stderr
    assert "r0: removed" in applied.stdout
    assert [r["name"] for r in router.client.get("/health").json()["replicas"]] == ["r1"]
    assert router.texts(PROMPTS, 48) == list(whole.values())
    assert second.processes[0].poll() is None


def _ask(url: str, prompt: str) -> list[str]:
    body = json.dumps({"prompt": prompt, "max_tokens": 48, "temperature": 0})
    code = "import sys, httpx; print(httpx.post(sys.argv[1], content=sys.argv[2], timeout=60, trust_env=False, "
    code += "headers={'content-type': 'application/json'}).text)"
    return [sys.executable, "-c", code, f"{url}/v1/completions", body]
