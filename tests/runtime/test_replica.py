"""The HTTP API of a real replica of two stages, with an API key."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from runtime_harness import Reference, Running, engine_config, start_replica, start_router, until

KEY = "a-secret"
LONG = 900
"""Tokens of an answer that takes seconds."""


@pytest.fixture(scope="module")
def replica(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {"max_batch": 3, "max_queue": 2, "max_context": 1024, "blocks": 192}
    config = engine_config(llama, [(0, 1, 1), (1, 4, 1)], **limits)
    running = start_replica(tmp_path_factory.mktemp("replica"), config, HEXC_API_KEY=KEY)
    running.client.headers["Authorization"] = f"Bearer {KEY}"
    yield running
    assert running.stop(signal.SIGINT, ranks=(0, 1)) == [0, 0]


@pytest.fixture(scope="module")
def router(replica: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start_router(tmp_path_factory.mktemp("router"), [("r0", replica.url, 1)], env={"HEXC_API_KEY": KEY})
    running.client.headers["Authorization"] = f"Bearer {KEY}"
    yield running
    assert running.stop() == [0]


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(replica: Running) -> Iterator[None]:
    yield
    assert until(lambda: replica.metric("hexc_kv_blocks_used") == 0, 10)
    assert replica.metric("hexc_requests_running") == replica.metric("hexc_requests_waiting") == 0


def chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events of a whole stream, which must end with [DONE]."""
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def stream(running: Running, body: dict[str, Any], path: str = "/v1/completions") -> list[dict[str, Any]]:
    return chunks(running.client.post(path, json={"temperature": 0, "stream": True, **body}))


def test_a_stream_says_the_same_in_pieces(replica: Running) -> None:
    whole = replica.complete("Hello there", 30)
    pieces = stream(replica, {"prompt": "Hello there", "max_tokens": 30, "stream_options": {"include_usage": True}})
    assert pieces[-1]["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == 30
    said = [piece["choices"][0] for piece in pieces[:-1]]
    assert "".join(choice["text"] for choice in said) == whole["choices"][0]["text"]
    assert len(said) > 15
    assert [choice["finish_reason"] for choice in said] == [None] * (len(said) - 1) + ["length"]


def test_chat_is_a_completion_of_the_template(replica: Running) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ]
    body = {"messages": messages, "max_tokens": 12, "temperature": 0}
    answer = replica.client.post("/v1/chat/completions", json=body).json()
    told = answer["choices"][0]["message"]
    assert told["content"] == replica.text("<s>system: be brief\n<s>user: hi\n<s>assistant:", 12)
    pieces = stream(replica, body, "/v1/chat/completions")
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == told["content"]


def test_token_ids_are_a_prompt_too(replica: Running, llama: Path) -> None:
    from hexdsl.runtime.text import load_tokenizer

    ids = load_tokenizer(llama)("Hello there").input_ids
    assert replica.text(ids, 20) == replica.text([ids], 20) == replica.text(["Hello there"], 20)


def test_a_stop_word_cuts_across_token_borders(replica: Running) -> None:
    whole = replica.text("Hello there", 40)
    stop = whole[len(whole) // 2 - 3 : len(whole) // 2 + 3]
    answer = replica.complete("Hello there", 40, stop=["not in it", stop])["choices"][0]
    assert answer == {**answer, "text": whole[: whole.index(stop)], "finish_reason": "stop"}
    pieces = [piece["choices"][0]["text"] for piece in stream(replica, {"prompt": "Hello there", "stop": stop})]
    assert whole.startswith("".join(pieces))
    assert stop not in "".join(pieces)


def test_a_seed_fixes_the_text_whatever_else_runs(replica: Running) -> None:
    how = {"temperature": 1.0, "top_p": 0.9}
    alone = replica.text("Hello there", 25, seed=5, **how)
    prompts = ["Hello there", "one after another and", "Hello there"]
    assert replica.texts(prompts, 25, seed=5, **how)[::2] == [alone, alone]
    assert replica.text("Hello there", 25, seed=6, **how) != alone
    assert replica.text("Hello there", 25, **how) != replica.text("Hello there", 25, **how)


def test_a_client_that_goes_away_gives_its_blocks_back(replica: Running) -> None:
    before = replica.metric('hexc_requests_total{outcome="cancelled"}')
    body = {"prompt": "Hello", "max_tokens": LONG, "temperature": 0}
    with replica.client.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        said = answer.iter_lines()
        next(said)
        assert replica.metric("hexc_kv_blocks_used") > 0
    with pytest.raises(httpx.ReadTimeout):
        replica.client.post("/v1/completions", json=body, timeout=0.5)
    assert until(lambda: replica.metric('hexc_requests_total{outcome="cancelled"}') == before + 2, 5)
    assert replica.metric("hexc_kv_blocks_used") == 0


def test_a_full_queue_refuses_with_429(replica: Running) -> None:
    body = {"prompt": "Hello", "max_tokens": LONG, "stream": True}
    with ExitStack() as open_streams:
        for _ in range(5):
            answer = open_streams.enter_context(replica.client.stream("POST", "/v1/completions", json=body))
            assert answer.status_code == 200
        assert until(lambda: replica.metric("hexc_requests_waiting") == 2, 5)
        refused = replica.client.post("/v1/completions", json=body)
        assert replica.metric("hexc_requests_running") == 3
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "queue_full"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "EOF while parsing"),
        ("[]", "should be an object"),
        ("{}", "`prompt`: Field required"),
        ('{"prompt": ""}', "the prompt is empty"),
        ('{"prompt": []}', "the prompt is empty"),
        ('{"prompt": ["a", "b"]}', "a list that holds one"),
        ('{"prompt": [100000]}', "token id 100000 is not below"),
        ('{"prompt": [-1]}', "a list of token ids"),
        ('{"prompt": [1.5]}', "a list of token ids"),
        ('{"prompt": "\\ud800"}', "Invalid JSON"),
        ('{"prompt": "a", "temperature": -1}', "`temperature`"),
        ('{"prompt": "a", "temperature": NaN}', "`temperature`"),
        ('{"prompt": "a", "temperature": "hot"}', "`temperature`"),
        ('{"prompt": "a", "top_p": 0}', "`top_p`"),
        ('{"prompt": "a", "max_tokens": 0}', "`max_tokens`"),
        ('{"prompt": "a", "max_tokens": true}', "`max_tokens`"),
        ('{"prompt": "a", "seed": 1e400}', "`seed`"),
        ('{"prompt": "a", "stop": [""]}', "1 to 256 characters"),
        ('{"prompt": "a", "stop": ["a", "b", "c", "d", "e"]}', "at most 4 texts"),
        ('{"prompt": "a", "n": 2}', "`n` is not supported"),
        ('{"prompt": "a", "logprobs": 3}', "`logprobs` is not supported"),
        ('{"prompt": "a", "max_tokens": 1024}', "1 prompt tokens + 1024 max_tokens are more than the context of 1024"),
    ],
)
def test_a_bad_request_is_told_why(body: str, words: str, replica: Running) -> None:
    answer = replica.client.post("/v1/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "messages", [[], "hi", [{"role": "robot", "content": "hi"}], [{"role": "user"}], [{"role": "user", "content": 1}]]
)
def test_bad_messages(messages: object, replica: Running) -> None:
    answer = replica.client.post("/v1/chat/completions", json={"messages": messages})
    assert answer.status_code == 400
    assert "`messages`" in answer.json()["error"]["message"]


def test_nothing_that_means_nothing_is_refused(replica: Running) -> None:
    harmless = {"n": 1, "presence_penalty": 0.0, "logit_bias": {}, "user": "me", "stop": None, "seed": None}
    assert replica.text("Hello", 5, **harmless) == replica.text("Hello", 5)


def test_other_models_paths_methods_and_sizes(replica: Running) -> None:
    post = replica.client.post
    assert post("/v1/completions", json={"model": "gpt", "prompt": "a"}).status_code == 404
    assert post("/v1/embeddings", json={}).json()["error"]["message"] == "Not Found"
    assert replica.client.get("/v1/completions").status_code == 405
    assert post("/v1/completions", json={"prompt": "a" * (1 << 20)}).status_code == 413
    assert post("/v1/completions", content=iter([b"a" * (1 << 19)] * 3)).status_code == 413


def test_the_key_is_asked_for(replica: Running, router: Running) -> None:
    for running in (replica, router):
        for header in ("", "Bearer wrong", f"Basic {KEY}"):
            answer = running.client.get("/v1/models", headers={"Authorization": header})
            assert answer.status_code == 401
        assert running.client.get("/v1/models").json()["data"][0]["id"] == "tiny"
        assert running.client.get("/health", headers={"Authorization": ""}).status_code == 200


def test_health_names_the_processes(replica: Running) -> None:
    stages = replica.client.get("/health").json()["stages"]
    assert [(stage["layers"], [rank["pid"] for rank in stage["ranks"]]) for stage in stages] == [
        ([0, 1], [replica.processes[0].pid]),
        ([1, 4], [replica.processes[1].pid]),
    ]
    assert "r0 rank 1: layers 1-3 of tiny ready" in replica.log(1)


def test_every_socket_is_on_loopback(replica: Running) -> None:
    sockets = [s for p in replica.processes for s in psutil.Process(p.pid).net_connections("inet")]
    listening = {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_metrics_add_up(replica: Running) -> None:
    before = [replica.metric(f"hexc_{name}") for name in ("generated_tokens_total", "ttft_seconds_count")]
    replica.texts(["a", "b"], 10)
    after = [replica.metric(f"hexc_{name}") for name in ("generated_tokens_total", "ttft_seconds_count")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [20, 2]


def test_ask_prints_the_answer_and_who_gave_it(
    router: Running, replica: Running, llama: Path, reference: Reference, capfd: pytest.CaptureFixture[str]
) -> None:
    from hexdsl.runtime.ask import main

    os.environ["HEXC_API_KEY"] = KEY
    try:
        main([router.url, "who are you", "--max-tokens", "20"])
    finally:
        del os.environ["HEXC_API_KEY"]
    told = capfd.readouterr()
    assert told.out == reference(llama, "<s>user: who are you\n<s>assistant:", 20) + "\n"
    assert "20 tokens" in told.err
    assert f"layers 1-3: pid {replica.processes[1].pid}" in told.err
