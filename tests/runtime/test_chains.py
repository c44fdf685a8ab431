"""Chains of peers with real processes: layers of different replicas in one request, losses, joins and leaves."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from runtime_harness import Reference, Running, free_port, start_router, until

PROMPT = "A tiny model says a few words about"
HALVES = {"a": (0, 2), "b": (0, 2), "c": (2, 4), "d": (2, 4)}
LAYER_S = {"a": 0.001, "b": 0.002, "c": 0.002, "d": 0.001}
"""`a` is the quicker first half and `d` the quicker second one: with (a, c) and (b, d) as replicas, a chain crosses."""


@dataclass
class Pool:
    """Peers by name, and the router in front of them."""

    peers: dict[str, Running]
    configs: dict[str, dict[str, Any]]
    router: Running

    def routing(self, names: str, **changes: Any) -> dict[str, Any]:
        return routing({name: self.configs[name] for name in names}, **changes)

    def change(self, names: str) -> None:
        answer = self.router.client.put("/admin/routing", json=self.routing(names))
        assert answer.status_code == 200, answer.text

    def retries(self) -> float:
        lines = self.router.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("hexc_router_retries_total{"))

    def steps(self, name: str) -> float:
        return self.peers[name].metric("hexc_peer_steps_total")


def peer_config(model: Path, name: str, layers: tuple[int, int], **changes: Any) -> dict[str, Any]:
    config = {
        "format_version": "1.0",
        "peer": name,
        "model": {"name": "tiny", "path": str(model), "dtype": "float32"},
        "layers": list(layers),
        "total_layers": 4,
        "kv": {"block_tokens": 16, "blocks": 64},
        "limits": {"max_batch": 4, "max_context": 256, "max_queue": 8, "prefill_chunk_tokens": 16},
        "port": free_port(),
        "wire_port": free_port(),
    }
    return {**config, **changes}


def spawn(folder: Path, config: dict[str, Any]) -> Running:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "peer.json"
    path.write_text(json.dumps(config))
    peer = Running(f"http://127.0.0.1:{config['port']}", folder)
    peer.spawn("chain_peer", "--config", str(path))
    return peer


def routing(configs: dict[str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
    listed = [{"name": n, "url": f"http://127.0.0.1:{c['port']}", "weight": 1} for n, c in configs.items()]
    holders = [
        {
            "name": n, "host": "127.0.0.1", "port": c["wire_port"], "layers": c["layers"],
            "layer_s": LAYER_S.get(n, 0.001), "seats": c["limits"]["max_batch"], "place": 0,
        }
        for n, c in configs.items()
    ]  # fmt: skip
    chains = {"cost": "latency", "layers": 4, "holders": holders, "delays_s": [[0.0001]], **changes}
    return {"replicas": listed, "chains": chains}


@pytest.fixture(scope="module")
def pool(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("pool")
    configs = {name: peer_config(llama, name, layers) for name, layers in HALVES.items()}
    peers = {name: spawn(folder / name, config) for name, config in configs.items()}
    for peer in peers.values():
        peer.wait_ready()
    listed = [(name, peer.url, 1.0) for name, peer in peers.items()]
    router = start_router(folder / "router", listed, protocol="chains", chains=routing(configs)["chains"])
    yield Pool(peers, configs, router)
    for running in (router, *peers.values()):
        running.kill()


def test_a_chain_over_two_replicas_says_what_the_whole_model_says(
    pool: Pool, llama: Path, reference: Reference
) -> None:
    before = {name: pool.steps(name) for name in "abcd"}
    assert pool.router.text(PROMPT, 24) == reference(llama, PROMPT, 24)
    assert {name for name in "abcd" if pool.steps(name) > before[name]} == {"a", "d"}


def test_requests_at_once_spread_over_peers_and_say_the_same(pool: Pool, llama: Path, reference: Reference) -> None:
    """One more than there are seats: it waits for one."""
    words = ["the", "layers", "it", "holds", "one", "after", "another", "and", "then"]
    prompts = [f"{PROMPT} {word}" for word in words]
    before = {name: pool.steps(name) for name in "abcd"}
    assert pool.router.texts(prompts, 16) == [reference(llama, prompt, 16) for prompt in prompts]
    assert all(pool.steps(name) > before[name] for name in "abcd")
    assert until(lambda: all(peer.metric("hexc_kv_blocks_used") == 0 for peer in pool.peers.values()), 5)


def test_a_client_that_goes_gives_all_blocks_back(pool: Pool) -> None:
    body = {"prompt": PROMPT, "max_tokens": 200, "temperature": 0, "stream": True}
    with pool.router.client.stream("POST", "/v1/completions", json=body) as answer:
        next(answer.iter_lines())
        assert any(peer.metric("hexc_kv_blocks_used") > 0 for peer in pool.peers.values())
    assert until(lambda: all(peer.metric("hexc_kv_blocks_used") == 0 for peer in pool.peers.values()), 10)


def test_a_peer_that_left_is_not_used_and_one_that_joins_is(
    pool: Pool, llama: Path, reference: Reference, tmp_path: Path
) -> None:
    pool.change("bcd")
    before = pool.steps("a")
    assert pool.router.text(PROMPT, 8) == reference(llama, PROMPT, 8)
    assert pool.steps("a") == before
    pool.configs["e"] = peer_config(llama, "e", (1, 4))
    pool.peers["e"] = spawn(tmp_path / "e", pool.configs["e"]).wait_ready()
    pool.change("abe")
    assert pool.router.client.get("/health").status_code == 200
    assert pool.router.text(PROMPT, 8) == reference(llama, PROMPT, 8)
    assert pool.steps("e") > 0
    pool.change("abcd")


def test_a_pool_that_lacks_a_layer_says_so(pool: Pool) -> None:
    pool.change("ab")
    assert pool.router.client.get("/health").status_code == 503
    answer = pool.router.client.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 4})
    assert answer.status_code == 503
    pool.change("abcd")


@pytest.mark.parametrize("lost", ["d", "a"])
def test_a_request_outlives_a_peer_of_its_chain(
    pool: Pool, llama: Path, reference: Reference, lost: str, tmp_path: Path
) -> None:
    """The last peer of the chain is killed in the middle of the answer, and then the first one."""
    body = {"prompt": PROMPT, "max_tokens": 160, "temperature": 0, "stream": True}
    text, retries = "", pool.retries()
    with pool.router.client.stream("POST", "/v1/completions", json=body) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
            if len(text) > 8 and pool.peers[lost].processes[0].poll() is None:
                pool.peers[lost].processes[0].send_signal(signal.SIGKILL)
    assert text == reference(llama, PROMPT, 160)
    assert pool.retries() == retries + 1
    assert pool.peers[lost].processes[0].wait() == -signal.SIGKILL
    assert lost in [r["name"] for r in pool.router.client.get("/health").json()["replicas"] if not r["ready"]]
    assert pool.router.text(PROMPT, 8) == reference(llama, PROMPT, 8)
    pool.peers[lost] = spawn(tmp_path / lost, pool.configs[lost]).wait_ready()
    assert until(lambda: _used_again(pool, lost), 20)


def _used_again(pool: Pool, name: str) -> bool:
    before = pool.steps(name)
    pool.router.text(PROMPT, 4)
    return pool.steps(name) > before


def test_by_load_the_turns_of_the_plan_come_round(
    pool: Pool, llama: Path, reference: Reference, tmp_path: Path
) -> None:
    turns = [{"chain": ["a", "c"], "weight": 2}, {"chain": ["b", "d"], "weight": 1}]
    listed = [(name, peer.url, 1.0) for name, peer in pool.peers.items() if name in HALVES]
    chains = pool.routing("abcd", cost="load", turns=turns)["chains"]
    router = start_router(tmp_path, listed, protocol="chains", chains=chains)
    try:
        before = {name: pool.steps(name) for name in "abcd"}
        assert {router.text(PROMPT, 4) for _ in range(6)} == {reference(llama, PROMPT, 4)}
        done = {name: pool.steps(name) - before[name] for name in "abcd"}
        assert done["a"] == done["c"] == 2 * done["b"] == 2 * done["d"] > 0
    finally:
        router.kill()
