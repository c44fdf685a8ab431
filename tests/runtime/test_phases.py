"""Prefill and decode in replicas of their own, real processes all: tokens as of one replica, deaths, live changes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from runtime_harness import Running, engine_config, spawn_replica, start_router, until

PROMPTS = [f"{word} tiny model says a few words about the layers it holds" * 2 for word in ("A", "One", "No", "The")]
TOKENS = 60
KEY = {"HEXC_API_KEY": "a-secret"}


@dataclass
class Service:
    """A prefill replica, two that decode (of which one in two stages), a router."""

    prefill: Running
    one: Running
    two: Running
    router: Running

    @property
    def replicas(self) -> dict[str, Running]:
        return {"p": self.prefill, "d1": self.one, "d2": self.two}

    def routing(self, **roles: str) -> dict[str, Any]:
        listed = [
            {"name": name, "url": self.replicas[name].url, "weight": 0.5, "role": role} for name, role in roles.items()
        ]
        return {"replicas": listed}

    def apply(self, folder: Path, routing: dict[str, Any], timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        change = {"format_version": "1.0", "router": self.router.url, "routing": routing, "timeout_s": timeout_s}
        (folder / "change.json").write_text(json.dumps(change))
        command = [sys.executable, "-m", "hexdsl.runtime.apply", str(folder / "change.json")]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=KEY)

    def streams(self, prompts: list[str], tokens: int = TOKENS) -> Streams:
        return Streams(self.router, prompts, tokens)


class Streams:
    """Answers that are read in threads, a stream each."""

    def __init__(self, router: Running, prompts: list[str], tokens: int) -> None:
        self._router, self._tokens = router, tokens
        self.begun = 0
        self._count = threading.Lock()
        self._pool = ThreadPoolExecutor(len(prompts))
        self._texts = [self._pool.submit(self._read, prompt) for prompt in prompts]

    def texts(self) -> list[str]:
        with self._pool:
            return [text.result(60) for text in self._texts]

    def _read(self, prompt: str) -> str:
        body = {"prompt": prompt, "max_tokens": self._tokens, "temperature": 0, "stream": True}
        said = []
        with self._router.client.stream("POST", "/v1/completions", json=body) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    choice = json.loads(line.removeprefix("data: "))["choices"][0]
                    said.append(choice["text"])
                    if len(said) == 4:
                        with self._count:
                            self.begun += 1
        assert choice["finish_reason"] == "length"
        return "".join(said)


@pytest.fixture(scope="module")
def service(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("phases")
    layouts = {"p": [(0, 4, 1)], "d1": [(0, 4, 1)], "d2": [(0, 1, 1), (1, 4, 1)]}
    limits = {"max_batch": 8, "max_queue": 32, "max_context": 512, "blocks": 160, "prefill_chunk_tokens": 16}
    p, d1, d2 = (
        spawn_replica(folder / name, engine_config(llama, stages, replica=name, **limits), **KEY)
        for name, stages in layouts.items()
    )
    listed = [("p", p.url, 1, "prefill"), ("d1", d1.url, 0.5, "decode"), ("d2", d2.url, 0.5, "decode")]
    handovers = [{"source": "p", "target": name, "weight": 0.5, "bits": 16} for name in ("d1", "d2")]
    router = start_router(folder / "router", listed, protocol="hexc", handovers=handovers, env=KEY)
    everything = [p, d1, d2, router]
    try:
        for running in everything:
            running.client.headers["Authorization"] = f"Bearer {KEY['HEXC_API_KEY']}"
            running.wait_ready()
        yield Service(p, d1, d2, router)
    finally:
        for running in everything:
            running.kill()


@pytest.fixture(scope="module")
def alone(service: Service) -> dict[str, str]:
    """What the prefill replica answers when it is asked alone for the whole work."""
    return {prompt: service.prefill.text(prompt, TOKENS) for prompt in PROMPTS}


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(service: Service) -> Iterator[None]:
    yield
    for running in service.replicas.values():
        if running.processes[0].poll() is None:
            assert until(lambda r=running: r.metric("hexc_kv_blocks_used") == 0, 20)  # type: ignore[misc]
            assert running.metric("hexc_requests_arriving") == running.metric("hexc_requests_leaving") == 0


def test_prefill_and_decode_apart_say_the_same(service: Service, alone: dict[str, str]) -> None:
    moved = service.prefill.metric('hexc_requests_total{outcome="moved"}')
    prompts = PROMPTS * 2
    assert service.streams(prompts).texts() == [alone[prompt] for prompt in prompts]
    assert service.router.texts(PROMPTS, TOKENS) == [alone[prompt] for prompt in PROMPTS]
    assert service.prefill.metric('hexc_requests_total{outcome="moved"}') == moved + 12
    assert service.one.metric("hexc_handover_arrivals_total") == 6
    assert service.two.metric("hexc_handover_arrivals_total") == 6
    positions = 3 * sum(service.router.complete(prompt, 1)["usage"]["prompt_tokens"] for prompt in PROMPTS)
    assert service.prefill.metric("hexc_handover_bytes_total") == positions * 4 * 2 * 2 * 32 * 4


def test_sampling_is_the_same_too(service: Service) -> None:
    how = {"temperature": 1.0, "top_p": 0.9, "seed": 7, "stop": "qq"}
    assert service.router.text(PROMPTS[0], 30, **how) == service.prefill.text(PROMPTS[0], 30, **how)


def test_phases_flip_while_requests_run(service: Service, alone: dict[str, str], tmp_path: Path) -> None:
    prompts = PROMPTS * 2
    before = service.one.processes[0].pid, service.two.processes[0].pid
    streams = service.streams(prompts)
    assert until(lambda: streams.begun >= 4, 20)
    done = service.apply(tmp_path, service.routing(p="decode", d1="decode", d2="prefill"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "d2: role decode becomes prefill" in done.stdout
    assert streams.texts() == [alone[prompt] for prompt in prompts]
    arrived = service.prefill.metric("hexc_handover_arrivals_total")
    assert service.router.texts(PROMPTS, TOKENS) == [alone[prompt] for prompt in PROMPTS]
    assert service.prefill.metric("hexc_handover_arrivals_total") == arrived + 2
    roles = {r["name"]: r["is"] for r in service.router.client.get("/health").json()["replicas"]}
    assert roles == {"p": "decode", "d1": "decode", "d2": "prefill"}
    assert before == (service.one.processes[0].pid, service.two.processes[0].pid)
    saved = json.loads((service.router.folder / "router.json").read_text())
    assert [r["role"] for r in saved["replicas"]] == ["decode", "decode", "prefill"]


def test_a_replica_leaves_and_its_requests_go_on_elsewhere(
    service: Service, alone: dict[str, str], tmp_path: Path
) -> None:
    streams = service.streams(PROMPTS * 2)
    assert until(lambda: streams.begun >= 4, 20)
    done = service.apply(tmp_path, service.routing(p="prefill", d1="decode"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "d2: removed" in done.stdout
    assert service.two.client.get("/health").json()["requests"] == 0
    assert streams.texts() == [alone[prompt] for prompt in PROMPTS * 2]


def test_a_change_to_what_is_not_there_changes_nothing(service: Service, tmp_path: Path) -> None:
    before = service.router.client.get("/admin/routing").json()
    routing = service.routing(p="prefill", d1="decode")
    routing["replicas"].append({"name": "new", "url": "http://127.0.0.1:9", "weight": 1, "role": "decode"})
    done = service.apply(tmp_path, routing, timeout_s=0.5)
    assert done.returncode == 1
    assert "new is not ready" in done.stderr
    assert service.router.client.get("/admin/routing").json() == before


def test_no_request_is_lost_when_a_replica_dies(service: Service, alone: dict[str, str], tmp_path: Path) -> None:
    assert service.apply(tmp_path, service.routing(p="prefill", d1="decode", d2="decode")).returncode == 0
    prompts = PROMPTS * 3
    streams = service.streams(prompts)
    assert until(lambda: streams.begun >= 6, 20)
    service.one.processes[0].kill()
    assert streams.texts() == [alone[prompt] for prompt in prompts]
    assert service.router.metric('hexc_router_retries_total{replica="d1"}') >= 1
    assert service.router.texts(PROMPTS, TOKENS) == [alone[prompt] for prompt in PROMPTS]


def test_the_only_prefill_replica_dies_and_one_that_decodes_does_it_all(
    service: Service, alone: dict[str, str], tmp_path: Path
) -> None:
    done = service.apply(tmp_path, service.routing(p="decode", d2="prefill"))
    assert (done.returncode, done.stderr) == (0, "")
    prompts = PROMPTS * 4
    streams = service.streams(prompts)
    assert until(lambda: streams.begun >= 1, 20)
    service.two.processes[1].kill()
    assert streams.texts() == [alone[prompt] for prompt in prompts]
    assert service.router.texts(PROMPTS, TOKENS) == [alone[prompt] for prompt in PROMPTS]


def test_a_mistake_is_an_answer_and_no_retry(service: Service) -> None:
    for body, words in (
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": "a", "max_tokens": 600}, "more than the context"),
        ({"prompt": "a", "model": "x"}, "no model `x` here"),
    ):
        answer = service.router.client.post("/v1/completions", json=body)
        assert answer.status_code in (400, 404)
        assert words in answer.json()["error"]["message"]


def test_only_the_service_itself_may_come_in(service: Service) -> None:
    for path in ("/internal/generate", "/internal/arrivals", "/internal/role", "/internal/leave"):
        answer = service.prefill.client.post(path, json={}, headers={"Authorization": "Bearer wrong"})
        assert answer.status_code == 401
    answer = service.router.client.put("/admin/routing", json={}, headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401
