"""One chat answer on the terminal: `python -m hexdsl.runtime.ask http://127.0.0.1:18100 "What is a GPU?"`.

The answer goes to stdout as it comes; then stderr tells TTFT, tokens per second and which processes answered.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from hexdsl.runtime.config import RuntimeFault, faults_to_exit

PATIENCE = 300.0
"""Seconds to wait for the next piece of the answer."""


@dataclass(frozen=True)
class Told:
    """What an answer says about itself: seconds to the first and the last token, their number, and the replica."""

    first: float
    whole: float
    tokens: int
    replica: str | None

    @property
    def rate(self) -> float:
        """Tokens per second after the first one."""
        return (self.tokens - 1) / max(self.whole - self.first, 1e-9)


def ask(client: httpx.Client, question: str, max_tokens: int) -> Told:
    """Streams the answer to stdout.  Raises `RuntimeFault` with the service's own words where it refuses."""
    body = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begun, first, tokens = time.monotonic(), None, 0
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            raise RuntimeFault(_message(answer))
        for chunk in _chunks(answer):
            text = _text(chunk)
            first = first or (time.monotonic() if text else None)
            tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
            print(text, end="", flush=True)
    print()
    now = time.monotonic()
    return Told((first or now) - begun, now - begun, tokens, answer.headers.get("x-hexc-replica"))


def _chunks(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    done = False
    for line in answer.iter_lines():
        done = done or line == "data: [DONE]"
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))
    if not done:
        raise RuntimeFault("the answer broke off")


def _text(chunk: dict[str, Any]) -> str:
    if "error" in chunk:
        raise RuntimeFault(chunk["error"]["message"])
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def _message(answer: httpx.Response) -> str:
    answer.read()
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError):
        return f"HTTP {answer.status_code}"


def processes(health: dict[str, Any], replica: str | None) -> list[str]:
    """One line a process of the replica that answered: its layers and its pid."""
    found = [r for r in health.get("replicas", [health]) if replica in (None, r.get("name"))]
    return [
        f"layers {first}-{end - 1}: pid {rank['pid']} on {rank['host']} (rank {rank['rank']})"
        for stage in (found[0]["stages"] if found else [])
        for first, end in [stage["layers"]]
        for rank in stage["ranks"]
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.ask", description=__doc__)
    parser.add_argument("url", help="the service's address, for example http://127.0.0.1:18100")
    parser.add_argument("question")
    parser.add_argument("--max-tokens", type=int, default=128)
    options = parser.parse_args(argv)
    with faults_to_exit("ask"):
        run(options.url, options.question, options.max_tokens)


def run(url: str, question: str, max_tokens: int) -> None:
    key = os.environ.get("HEXC_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
            told = ask(client, question, max_tokens)
            lines = processes(client.get("/health").json(), told.replica)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RuntimeFault(f"{url}: {error}") from None
    print(f"TTFT {told.first:.2f} s, {told.rate:.1f} tokens/s, {told.tokens} tokens", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
