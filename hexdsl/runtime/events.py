"""What there is to say about a request, as lines between processes and in OpenAI's shapes for clients.  No torch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from hexdsl.runtime.api import BadRequest, Shape, error_body, usage

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Moved:
    """The replica that goes on with a request, and the number under which it knows it."""

    name: str
    url: str
    transfer: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something new about a request: a token and its text (may be empty), their number so far, how it ended here."""

    text: str = ""
    tokens: int = 0
    token: int | None = None
    finish: Finish | None = None
    error: str | None = None
    moved: Moved | None = None

    @property
    def last(self) -> bool:
        return self.finish is not None or self.error is not None or self.moved is not None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The first line about a request: the tokens of its prompt, and the most that its answer may have."""

    prompt_tokens: int
    max_tokens: int


_EVENT, _ACCEPTED = TypeAdapter(Event), TypeAdapter(Accepted)


def line_of(said: Event | Accepted) -> str:
    adapter: TypeAdapter[Any] = _EVENT if isinstance(said, Event) else _ACCEPTED
    return adapter.dump_json(said, exclude_defaults=True).decode() + "\n"


def event_of(line: bytes) -> Event:
    """Raises ValueError."""
    return _EVENT.validate_json(line)


def accepted_of(line: bytes) -> Accepted:
    """Raises ValueError."""
    return _ACCEPTED.validate_json(line)


async def lines_in(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines; only a newline ends one, for texts may hold other separators of lines."""
    held = b""
    async for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            yield line


async def whole(events: AsyncIterator[Event], shape: Shape, prompt_tokens: int) -> dict[str, Any]:
    """The answer in one piece.  Raises `BadRequest` (503) where the request came to no end."""
    text, tokens, finish = [], 0, "stop"
    async for event in events:
        if event.error:
            raise BadRequest(event.error, status=503)
        text.append(event.text)
        tokens, finish = event.tokens, event.finish or finish
    return shape.whole("".join(text), finish, usage(prompt_tokens, tokens))


async def stream(
    events: AsyncIterator[Event], shape: Shape, prompt_tokens: int, *, with_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events: chunks, then [DONE]."""
    tokens = 0
    if first := shape.first():
        yield _sse(first)
    async for event in events:
        if event.error:
            yield _sse(error_body(event.error, "server_error"))
        elif event.text or event.finish:
            yield _sse(shape.piece(event.text, event.finish))
        tokens = event.tokens
    if with_usage:
        yield _sse(shape.usage(usage(prompt_tokens, tokens)))
    yield "data: [DONE]\n\n"


def _sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
