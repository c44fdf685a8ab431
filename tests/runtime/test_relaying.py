"""The router in front of stubs of our own engine: answers that break off go on elsewhere, and never for ever."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_harness import Running, free_port, start_router, until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from test_router import Stub

from hexdsl.runtime.web import Server

ANSWER = "one two three\u2028four five six"
WORDS = [f"{word} " for word in ANSWER.split(" ")]


class Ours(Stub):
    """Counts: the token k has the k-th word.  Breaks off, says an error or moves after `after` tokens of an answer."""

    def __init__(self, name: str, role: str = "both", *, after: int = 99, end: str = "breaks", port: int = 0) -> None:
        super().__init__(name, port=port or free_port())
        self.role, self.after, self.end, self.healthy = role, after, end, True
        self.elsewhere = ""
        self.asked: list[dict[str, Any]] = []
        self.told: list[tuple[str, dict[str, Any]]] = []

    async def generate(self, request: Request) -> Response:
        self.asked.append(await request.json())
        if self.end in ("full", "wrong"):
            status = 429 if self.end == "full" else 404
            body = {"error": {"message": self.name, "param": "model", "code": "why"}}
            return JSONResponse(body, status)
        resume = self.asked[-1]["resume"]
        return StreamingResponse(self._lines(len(resume)), media_type="application/x-ndjson")

    async def follow(self, _: Request) -> Response:
        return StreamingResponse(self._lines(1), media_type="application/x-ndjson")

    async def hear(self, request: Request) -> Response:
        self.told.append((request.url.path, await request.json()))
        return JSONResponse({})

    async def health(self, _: Request) -> Response:
        about = {"role": self.role, "requests": 0, "stages": []}
        return JSONResponse(about, 200 if self.healthy else 503)

    async def _lines(self, first: int) -> AsyncIterator[str]:
        yield json.dumps({"prompt_tokens": 3, "max_tokens": len(WORDS)}) + "\n"
        for k in range(first, len(WORDS)):
            if k - first == self.after:
                yield self._end()
                return
            finish = "length" if k == len(WORDS) - 1 else None
            said = {"token": k, "tokens": k + 1, "text": WORDS[k], "finish": finish}
            yield json.dumps(said, ensure_ascii=False) + "\n"

    def _end(self) -> str:
        if self.end == "moves":
            moved = {"name": "d", "url": self.elsewhere, "transfer": "abc"}
            return json.dumps({"moved": moved}) + "\n"
        return {"breaks": "", "halves": '{"token": 3, "te', "errors": '{"error": "stopping"}\n'}[self.end]

    def routes(self) -> list[Route]:
        return [
            Route("/internal/generate", self.generate, methods=["POST"]),
            Route("/internal/arrivals/abc", self.follow),
            Route("/internal/{what}", self.hear, methods=["POST"]),
            Route("/health", self.health),
        ]

    def start(self) -> Server:
        return self.serve(Starlette(routes=self.routes()))


Serve = Callable[..., Running]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts stubs and a router in front of them."""
    servers: list[Server] = []
    routers: list[Running] = []

    def start(*stubs: Ours, **changes: Any) -> Running:
        servers.extend(stub.start() for stub in stubs)
        listed = [(stub.name, stub.url, 1, stub.role) for stub in stubs]
        routers.append(start_router(tmp_path, listed, protocol="hexc", **changes))
        return routers[-1]

    yield start
    codes = [router.stop() for router in routers]
    for server in servers:
        server.end()
    assert codes == [[0]]


def streamed(router: Running) -> tuple[str, str | None]:
    """The text of a stream and how it finished."""
    answer = router.client.post("/v1/completions", json={"prompt": "a", "stream": True})
    events = [json.loads(part[6:]) for part in answer.text.split("\n\n") if part.startswith("data: {")]
    if "error" in events[-1]:
        return "".join(e["choices"][0]["text"] for e in events[:-1]), events[-1]["error"]["message"]
    return "".join(e["choices"][0]["text"] for e in events), events[-1]["choices"][0]["finish_reason"]


@pytest.mark.parametrize("end", ["breaks", "halves", "errors"])
def test_an_answer_goes_on_with_the_next_token(serve: Serve, end: str) -> None:
    bad, good = Ours("bad", after=2, end=end), Ours("good")
    router = serve(bad, good)
    assert streamed(router) == ("".join(WORDS), "length")
    assert [asked["resume"] for asked in good.asked] == [[0, 1]]
    assert good.asked[0]["max_tokens"] == len(WORDS)
    assert good.asked[0]["completion"]["seed"] == bad.asked[0]["completion"]["seed"]
    assert router.metric('hexc_router_retries_total{replica="bad"}') == 1
    whole = router.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]}).json()
    assert whole["choices"][0]["message"]["content"] == "".join(WORDS)
    assert whole["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def test_a_replica_that_makes_progress_each_time_is_enough(serve: Serve) -> None:
    assert streamed(serve(Ours("slow", after=1))) == ("".join(WORDS), "length")


def test_a_request_that_kills_every_replica_is_given_up(serve: Serve) -> None:
    stubs = [Ours(name, after=0) for name in "ab"]
    assert streamed(serve(*stubs)) == ("", "no replica can finish this answer")
    assert sum(len(stub.asked) for stub in stubs) == 4


def test_a_replica_that_broke_off_comes_back_when_it_is_ready(serve: Serve) -> None:
    a, b = Ours("a", after=1), Ours("b")
    a.healthy = False
    router = serve(a, b)
    for _ in range(4):
        assert streamed(router) == ("".join(WORDS), "length")
    assert (len(a.asked), router.metric("hexc_router_replicas_down")) == (1, 1)
    a.healthy, a.after = True, 99
    assert until(lambda: router.metric("hexc_router_replicas_down") == 0, 5)
    assert [path for path, _ in a.told].count("/internal/role") >= 1
    assert {streamed(router) for _ in range(2)} == {("".join(WORDS), "length")}
    assert len(a.asked) == 2


def test_a_moved_request_is_followed_and_begun_again_if_it_is_not_there(serve: Serve) -> None:
    p, d = Ours("p", "prefill", after=1, end="moves"), Ours("d", "decode")
    p.elsewhere = d.url
    router = serve(p, d)
    assert streamed(router) == ("".join(WORDS), "length")
    assert p.asked[0]["targets"] == [{"name": "d", "url": d.url, "bits": 16}]
    assert d.asked == []
    answer = router.client.post("/v1/completions", json={"prompt": "a"})
    assert (answer.headers["x-hexc-prefill"], answer.headers["x-hexc-replica"]) == ("p", "d")
    p.elsewhere = f"http://127.0.0.1:{free_port()}"
    assert streamed(router) == ("".join(WORDS), "length")
    assert router.metric('hexc_router_handovers_total{replica="p"}') >= 3


def test_a_mistake_is_told_in_the_words_of_the_replica(serve: Serve) -> None:
    router = serve(Ours("a", end="wrong"))
    answer = router.client.post("/v1/completions", json={"prompt": "a", "model": "other"})
    assert (answer.status_code, answer.json()["error"]["message"], answer.json()["error"]["code"]) == (404, "a", "why")
    answer = router.client.post("/v1/completions", json={"prompt": "a", "top_p": 7})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "top_p")


def test_a_full_service_refuses_before_it_accepts(serve: Serve) -> None:
    answer = serve(Ours("a", end="full"), Ours("b", end="full")).client.post("/v1/completions", json={"prompt": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_replicas_hear_of_their_roles_and_leavers_where_to(serve: Serve) -> None:
    a, b, c = Ours("a"), Ours("b"), Ours("c")
    router = serve(a, b, c)
    listed = [
        {"name": "a", "url": a.url, "weight": 1, "role": "prefill", "max_batch": 3},
        {"name": "b", "url": b.url, "weight": 1, "role": "decode"},
    ]
    handovers = [{"source": "a", "target": "b", "weight": 1, "bits": 4}]
    answer = router.client.put("/admin/routing", json={"replicas": listed, "handovers": handovers})
    assert answer.status_code == 200, answer.text
    assert router.client.get("/admin/routing").json() == answer.json()
    assert ("/internal/role", {"role": "prefill", "max_batch": 3}) in a.told
    assert ("/internal/role", {"role": "decode"}) in b.told
    to_b = {"name": "b", "url": b.url}
    assert a.told[-1] == ("/internal/leave", {"targets": [to_b | {"bits": 4}], "everything": False})
    assert c.told[-1] == ("/internal/leave", {"targets": [to_b | {"bits": 16}], "everything": True})
    assert not [said for said in b.told if said[0] == "/internal/leave"]
    streamed(router)
    assert (a.asked[-1]["targets"], b.asked, c.asked) == ([{"name": "b", "url": b.url, "bits": 4}], [], [])
    saved = json.loads((router.folder / "router.json").read_text())
    assert (saved["handovers"], len(saved["replicas"])) == (handovers, 2)


@pytest.mark.parametrize(
    ("routing", "words"),
    [
        ({"replicas": []}, "at least 1 item"),
        ({"replicas": [{"name": "a", "url": "http://x", "weight": 1, "role": "decode"}]}, "the other way round"),
        ({"replicas": [{"name": "a", "url": "http://x", "weight": 0}]}, "greater than 0"),
    ],
)
def test_a_routing_that_cannot_be_is_refused(serve: Serve, routing: dict[str, Any], words: str) -> None:
    router = serve(Ours("a"))
    answer = router.client.put("/admin/routing", json=routing)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (400, True)
    assert [r["name"] for r in router.client.get("/admin/routing").json()["replicas"]] == ["a"]
