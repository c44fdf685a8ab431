"""The router in front of stub replicas."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_harness import Running, free_port, start_router, until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hexdsl.runtime.routing import Wheel
from hexdsl.runtime.web import Server, bind


@dataclass(eq=False)
class Stub:
    """A replica that answers with its name, after what `mode` says."""

    name: str
    mode: str = "ok"
    gone: int = 0
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        if self.mode == "full":
            return JSONResponse({"error": {"message": self.name}}, 429, {"Retry-After": "1"})
        if self.mode in ("slow", "breaks"):
            return StreamingResponse(self._pieces(), media_type="text/event-stream")
        return JSONResponse({"replica": self.name, "body": body, "key": request.headers.get("authorization")})

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            yield b"data: first\n\n"
            await asyncio.sleep(0 if self.mode == "breaks" else 30)
            raise OSError
        finally:
            self.gone += 1

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ready", "stages": [{"layers": [0, 4], "ranks": []}]})

    def start(self) -> Server:
        routes = [Route("/v1/completions", self.complete, methods=["POST"]), Route("/health", self.health)]
        return self.serve(Starlette(routes=routes))

    def serve(self, app: Starlette) -> Server:
        server = Server(app)
        threading.Thread(target=server.run, args=([bind("127.0.0.1", self.port)],), daemon=True).start()
        assert until(lambda: server.started, 10)
        return server


Serve = Callable[..., Running]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts stubs and a router in front of them (and of `more`)."""
    servers: list[Server] = []
    routers: list[Running] = []

    def start(stubs: dict[Stub, float], more: tuple[tuple[str, str, float], ...] = (), **changes: object) -> Running:
        servers.extend(stub.start() for stub in stubs)
        replicas = [*more, *((stub.name, stub.url, weight) for stub, weight in stubs.items())]
        routers.append(start_router(tmp_path, replicas, **changes))
        return routers[-1]

    yield start
    codes = [router.stop() for router in routers]
    for server in servers:
        server.end()
    assert codes == [[0]]


def post(router: Running, **body: object) -> dict[str, object]:
    answer = router.client.post("/v1/completions", json={"prompt": "a", **body}, headers={"Authorization": "Bearer k"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-hexc-replica"] == answer.json()["replica"]
    return dict(answer.json())


def test_requests_go_by_weight_and_pass_unchanged(serve: Serve) -> None:
    router = serve({Stub("a"): 0.7, Stub("b"): 0.3})
    assert "".join(str(post(router)["replica"]) for _ in range(20)) == "abaaabaaba" * 2
    assert post(router, seed=3) == {"replica": "a", "body": {"prompt": "a", "seed": 3}, "key": "Bearer k"}
    assert router.metric('hexc_router_answers_total{replica="b"}') == 6


def test_a_dead_replica_is_passed_over(serve: Serve) -> None:
    dead = ("dead", f"http://127.0.0.1:{free_port()}", 5.0)
    router = serve({Stub("a"): 1}, (dead,))
    assert [post(router)["replica"] for _ in range(3)] == ["a", "a", "a"]
    assert router.metric('hexc_router_refusals_total{replica="dead"}') >= 1
    health = router.client.get("/health").json()
    assert [(r["name"], r["ready"]) for r in health["replicas"]] == [("dead", False), ("a", True)]
    assert health["replicas"][1]["stages"] == [{"layers": [0, 4], "ranks": []}]


def test_a_replica_that_dies_before_it_answers_is_passed_over(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging_up:
        threading.Thread(target=lambda: hanging_up.accept()[0].close(), daemon=True).start()
        router = serve({Stub("a"): 1}, (("dying", f"http://127.0.0.1:{hanging_up.getsockname()[1]}", 2.0),))
        assert post(router)["replica"] == "a"
    assert router.metric('hexc_router_refusals_total{replica="dying"}') == 1


def test_a_full_replica_is_passed_over_until_all_are_full(serve: Serve) -> None:
    full, other = Stub("full", "full"), Stub("other")
    router = serve({full: 1, other: 1})
    assert {str(post(router)["replica"]) for _ in range(4)} == {"other"}
    other.mode = "full"
    answer = router.client.post("/v1/completions", json={})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"


def test_nobody_there_is_503_and_not_ready(serve: Serve) -> None:
    router = serve({}, (("dead", f"http://127.0.0.1:{free_port()}", 1.0),))
    answer = router.client.post("/v1/completions", json={})
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "no replica can be reached")
    assert router.client.get("/health").status_code == 503


def test_streams_come_as_they_are_made_and_end_with_the_client(serve: Serve) -> None:
    slow = Stub("slow", "slow")
    router = serve({slow: 1}, max_queue=1)
    with router.client.stream("POST", "/v1/completions", json={}) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"data: first\n\n"
        assert router.client.post("/v1/completions", json={}).status_code == 429
        assert router.metric("hexc_router_requests_running") == 1
    assert until(lambda: slow.gone == 1, 5)
    assert until(lambda: router.metric("hexc_router_requests_running") == 0, 5)


def test_a_replica_that_breaks_off_ends_the_stream(serve: Serve) -> None:
    router = serve({Stub("a", "breaks"): 1})
    assert router.client.post("/v1/completions", json={}).text == "data: first\n\n"


def test_long_bodies_are_refused(serve: Serve) -> None:
    router = serve({Stub("a"): 1}, max_body_bytes=1000)
    assert router.client.post("/v1/completions", json={"prompt": "a" * 1000}).status_code == 413


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_one_round_gives_each_its_exact_share(shares: list[int]) -> None:
    wheel = Wheel({f"r{i}": share / 8 for i, share in enumerate(shares)})
    chosen = [wheel.next() for _ in range(sum(shares))]
    assert [chosen.count(f"r{i}") for i in range(len(shares))] == shares


def test_a_replica_that_is_down_is_tried_last() -> None:
    down = {"a"}
    wheel = Wheel({"a": 1, "b": 1, "c": 0.5}, down)
    assert "".join(wheel.next() or "" for _ in range(6)) == "bcbbcb"
    assert wheel.next(tried=["b", "c"]) == "a"
    assert wheel.next(tried=["a", "b", "c"]) is None
    assert wheel.order() == ["b", "c"]
    down.clear()
    assert {wheel.next(), wheel.next()} == {"a", "b"}


def test_light_programs_do_not_import_torch() -> None:
    light = ", ".join(f"hexdsl.runtime.{name}" for name in ("router", "ask", "worker", "demo", "apply"))
    check = f"import sys, {light}"
    done = subprocess.run([sys.executable, "-c", f"{check}; sys.exit('torch' in sys.modules)"], check=False)
    assert done.returncode == 0
