"""The router in front of replicas that do one half of the work each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_harness import Running, free_port, start_router
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from test_router import Stub

from hexdsl.runtime.config import ReplicaConfig, RouterConfig
from hexdsl.runtime.handover import KEEP, decode_of, prefill_of
from hexdsl.runtime.web import Server

CHAT = {"messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 9}


class Half(Stub):
    """A stub that says where its KV cache is, and remembers what it was asked."""

    def __init__(self, name: str, role: str, weight: float = 1, mode: str = "ok") -> None:
        super().__init__(name, mode)
        self.role, self.weight = role, weight
        self.asked: list[dict[str, Any]] = []

    async def complete(self, request: Request) -> Response:
        self.asked.append(await request.json())
        if self.mode == "bad":
            return JSONResponse({"error": {"message": f"{self.name} does not like it"}}, 400)
        if self.mode == "full":
            return JSONResponse({"error": {"message": self.name}}, 503)
        where = {"kv_transfer_params": {"from": self.name}} if self.role == "prefill" else {}
        return JSONResponse({"replica": self.name, "body": self.asked[-1], **where})

    async def health(self, _: Request) -> Response:
        return Response(status_code=200)


Serve = Callable[..., Running]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts stubs and a router in front of them and of replicas that are not there."""
    servers: list[Server] = []
    routers: list[Running] = []

    def start(*stubs: Half, dead: tuple[tuple[str, str], ...] = ()) -> Running:
        servers.extend(stub.start() for stub in stubs)
        listed = [(stub.name, stub.url, stub.weight, stub.role) for stub in stubs]
        gone = [(name, f"http://127.0.0.1:{free_port()}", 1.0, role) for name, role in dead]
        routers.append(start_router(tmp_path, [*gone, *listed]))
        return routers[-1]

    yield start
    codes = [router.stop() for router in routers]
    for server in servers:
        server.end()
    assert codes == [[0]]


def post(router: Running, **body: object) -> Any:
    answer = router.client.post("/v1/completions", json={"prompt": "a", **body})
    assert answer.status_code == 200, answer.text
    return answer


def test_a_request_is_prefilled_then_decoded_where_its_kv_cache_is_known(serve: Serve) -> None:
    prefill, decode = Half("p", "prefill"), Half("d", "decode")
    router = serve(prefill, decode)
    answer = post(router, max_tokens=40, stream_options={"include_usage": True}, min_tokens=3)
    assert prefill.asked == [{"prompt": "a", "max_tokens": 1, "stream": False, "kv_transfer_params": dict(KEEP)}]
    sent = {"prompt": "a", "max_tokens": 40, "stream_options": {"include_usage": True}, "min_tokens": 3}
    assert answer.json() == {"replica": "d", "body": {**sent, "kv_transfer_params": {"from": "p"}}}
    assert (answer.headers["x-hexc-replica"], answer.headers["x-hexc-prefill"]) == ("d", "p")
    assert router.metric('hexc_router_handovers_total{replica="p"}') == 1
    assert router.metric('hexc_router_answers_total{replica="d"}') == 1


def test_each_half_is_shared_out_by_its_own_weights(serve: Serve) -> None:
    router = serve(
        Half("p", "prefill", 0.5), Half("q", "prefill", 0.5), Half("d", "decode", 0.75), Half("e", "decode", 0.25)
    )
    answers = [post(router) for _ in range(8)]
    assert [a.headers["x-hexc-prefill"] for a in answers] == ["p", "q"] * 4
    assert "".join(a.headers["x-hexc-replica"] for a in answers) == "dded" * 2


@pytest.mark.parametrize("body", [{"n": 2}, {"prompt": ["a", "b"]}, {"echo": True}, {"prompt": {"a": 1}}])
def test_what_cannot_be_halved_is_decoded_as_it_is(serve: Serve, body: dict[str, object]) -> None:
    prefill = Half("p", "prefill")
    answer = post(serve(prefill, Half("d", "decode")), **body)
    assert answer.json()["body"] == {"prompt": "a", **body}
    assert prefill.asked == []


def test_service_goes_on_without_a_prefill(serve: Serve) -> None:
    router = serve(Half("d", "decode"), dead=(("p", "prefill"),))
    answer = post(router)
    assert answer.json()["body"] == {"prompt": "a"}
    assert "x-hexc-prefill" not in answer.headers
    assert router.client.get("/health").json()["status"] == "ready"


def test_another_decodes_where_one_is_full_or_gone(serve: Serve) -> None:
    router = serve(
        Half("p", "prefill"), Half("full", "decode", mode="full"), Half("d", "decode"), dead=(("gone", "decode"),)
    )
    answers = {(a.headers["x-hexc-prefill"], a.headers["x-hexc-replica"]) for a in (post(router) for _ in range(4))}
    assert answers == {("p", "d")}


def test_a_full_service_says_so_and_none_that_decodes_is_not_ready(serve: Serve) -> None:
    router = serve(Half("p", "prefill", mode="full"), dead=(("d", "decode"),))
    assert router.client.post("/v1/completions", json={"prompt": "a"}).status_code == 503
    assert router.client.get("/health").status_code == 503


def test_a_mistake_that_the_prefill_finds_is_the_answer(serve: Serve) -> None:
    decode = Half("d", "decode")
    answer = serve(Half("p", "prefill", mode="bad"), decode).client.post("/v1/completions", json={"prompt": "a"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "p does not like it")
    assert decode.asked == []


def test_a_chat_is_halved_too() -> None:
    half = prefill_of(json.dumps(CHAT).encode())
    assert half is not None
    messages = CHAT["messages"]
    assert json.loads(half) == {
        "messages": messages, "max_tokens": 1, "stream": False, "kv_transfer_params": dict(KEEP)
    }  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"prompt": 3}', b"\xff"])
def test_what_is_no_request_is_not_halved(body: bytes) -> None:
    assert prefill_of(body) is None


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"kv_transfer_params": null}'])
def test_a_prefill_that_kept_nothing_changes_nothing(answer: bytes) -> None:
    assert decode_of(b'{"prompt":"a"}', answer) == b'{"prompt":"a"}'


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_one_half_alone_is_no_service(role: str) -> None:
    one = ReplicaConfig.model_validate({"name": "a", "url": "http://x", "weight": 1, "role": role})
    with pytest.raises(ValueError, match="the other way round"):
        RouterConfig(format_version="1.0", port=1, model="m", replicas=(one,))
