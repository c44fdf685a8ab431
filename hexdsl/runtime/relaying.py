"""Requests to replicas of our own engine: an answer goes on where a replica is lost, or hands its KV to another one.

The router keeps the tokens of every answer under way.  When a replica breaks off, prompt and tokens go to another one,
which computes them again and goes on with the next token: no accepted request is lost and no token is told twice.
Sampling does not differ either, for a draw depends on the request's seed and the token's number only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hexdsl.runtime.api import BadRequest, ChatRequest, CompletionRequest, Shape, parse
from hexdsl.runtime.client import own_key
from hexdsl.runtime.events import Accepted, Event, Moved, accepted_of, event_of, lines_in, stream, whole
from hexdsl.runtime.fleet import Fleet
from hexdsl.runtime.passing import OVER, PREFILL, REPLICA
from hexdsl.runtime.web import unless_gone

PAUSE = 0.2
"""Seconds until replicas are asked again for a request that none of them has room for any more."""

PATIENCE = 300.0
"""Seconds for which an accepted request waits for a replica that takes it again."""

FRUITLESS = 4
"""Replicas that may break off one after another without a new token: the request may be what kills them."""


class Broken(Exception):
    """A replica broke off, or gave the request back."""


class NoRoom(Exception):
    """No replica takes the request now.  `refusal` is what the last one said."""

    def __init__(self, refusal: BadRequest) -> None:
        self.refusal = refusal


@dataclass(eq=False)
class Leg:
    """A part of a request's way: the replica that answers, and the lines to come."""

    replica: str
    answer: httpx.Response
    lines: AsyncIterator[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = lines_in(self.answer.aiter_bytes())


class Relay:
    """One request from its acceptance to its last token."""

    def __init__(self, fleet: Fleet, asked: CompletionRequest | ChatRequest) -> None:
        self._fleet = fleet
        self._kind = "chat" if isinstance(asked, ChatRequest) else "completion"
        self._asked = asked.model_dump(mode="json", exclude_unset=True) | {"seed": asked.fixed_seed}
        self._tokens: list[int] = []
        self._leg: Leg | None = None
        self.accepted: Accepted | None = None
        self.replica = self.prefill = ""

    async def accept(self) -> Accepted:
        """Finds a replica that takes the request.  Raises `BadRequest` where none does, or where it is not right."""
        try:
            self._leg = await self._enter()
        except NoRoom as none:
            raise none.refusal from None
        assert self.accepted
        return self.accepted

    async def events(self) -> AsyncIterator[Event]:
        """The events after the acceptance, to the last one, whatever replicas they come from."""
        fruitless = 0
        while self._leg:
            before = len(self._tokens)
            try:
                async for event in self._follow():
                    yield event
                return
            except Broken:
                pass
            except (httpx.HTTPError, ValueError):
                self._fleet.refused(self.replica)
            self._fleet.retries.add(1, self.replica)
            fruitless = 0 if len(self._tokens) > before else fruitless + 1
            await self._close()
            self._leg = await self._again() if fruitless < FRUITLESS else None
        yield Event(error="no replica can finish this answer", tokens=len(self._tokens))

    async def aclose(self) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._leg:
            await self._leg.answer.aclose()
            self._leg = None

    async def _follow(self) -> AsyncIterator[Event]:
        """Events up to the last.  Raises `Broken`, httpx.HTTPError, or ValueError for what is no event."""
        while True:
            assert self._leg
            moved = None
            async for line in self._leg.lines:
                event = event_of(line)
                if event.error:
                    await self._blame()
                    raise Broken(event.error)
                if moved := event.moved:
                    break
                assert event.token is not None
                self._tokens.append(event.token)
                yield event
                if event.last:
                    return
            if moved is None:
                self._fleet.refused(self._leg.replica)
                raise Broken("the stream ended early")
            await self._move(moved)

    async def _blame(self) -> None:
        """Somebody broke an answer off: asked last, until it says that it is well."""
        self._fleet.down.add(self.replica)

    async def _move(self, moved: Moved) -> None:
        """The request is another replica's now.  Raises like `_follow`."""
        assert self._leg
        self._fleet.handovers.add(1, self._leg.replica)
        self.prefill, self.replica = self._leg.replica, moved.name
        await self._close()
        self._leg = await self._ask(moved.name, "GET", f"{moved.url}/internal/arrivals/{moved.transfer}", None)
        if self._leg is None or self._leg.answer.status_code != 200:
            raise Broken("the request is not where it moved")
        accepted_of(await anext(self._leg.lines, b""))

    async def _again(self) -> Leg | None:
        """Another replica's answer to the rest; None if nobody takes it for long."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                return await self._enter()
            except NoRoom:
                await asyncio.sleep(PAUSE)
            except BadRequest:  # it fits none of those that are left
                return None
        return None

    async def _enter(self) -> Leg:
        """The answer of the next replica that takes it, one that decodes if nobody else is left.

        Raises `NoRoom`, and `BadRequest` where a replica finds a mistake.
        """
        last = BadRequest("no replica can be reached", status=503)
        for name in self._candidates():
            leg = await self._ask(name, "POST", self._url(name), self._body(name))
            if leg and leg.answer.status_code == 200:
                if await self._begun(leg):
                    return leg
            elif leg:
                last = _complaint(leg)
                if last.status not in OVER:
                    raise last
        raise NoRoom(last)

    async def _begun(self, leg: Leg) -> bool:
        """Whether a replica that has said yes also says how the answer begins."""
        try:
            self.accepted = accepted_of(await anext(leg.lines, b""))
        except (httpx.HTTPError, ValueError):
            self._fleet.refused(leg.replica)
            await leg.answer.aclose()
            return False
        self.replica, self.prefill = leg.replica, ""
        return True

    def _candidates(self) -> Iterator[str]:
        table = self._fleet.table
        yield from table.entries.turns()
        yield from table.decodes.turns()

    def _url(self, name: str) -> str:
        return f"{self._fleet.table.replicas[name].url}/internal/generate"

    def _body(self, name: str) -> dict[str, Any]:
        targets = self._fleet.table.takers(name)
        most = {"max_tokens": self.accepted.max_tokens} if self.accepted else {}
        return {self._kind: self._asked, "resume": self._tokens, "targets": targets, **most}

    async def _ask(self, name: str, method: str, url: str, body: dict[str, Any] | None) -> Leg | None:
        """A replica's answer, whole unless it is a stream; None where it cannot be reached."""
        client = self._fleet.client
        try:
            answer = await client.send(client.build_request(method, url, json=body, headers=own_key()), stream=True)
            if answer.status_code != 200:
                await answer.aread()
        except httpx.TransportError:
            self._fleet.refused(name)
            return None
        self._fleet.answered(name)
        return Leg(name, answer)


Way = Callable[[Fleet, CompletionRequest | ChatRequest], Relay]


async def relay(fleet: Fleet, request: Request, body: bytes, *, chat: bool, way_of: Way = Relay) -> Response:
    """The answer to a client's request, in a stream if it asks for one; `way_of` says how replicas are found."""
    asked = parse(body, ChatRequest) if chat else parse(body, CompletionRequest)
    way = way_of(fleet, asked)
    try:
        accepted = await unless_gone(request, way.accept())
        shape = Shape(fleet.config.model, int(time.time()), chat=chat)
        if asked.stream:
            fleet.answers.add(1, way.replica)
            with_usage = asked.stream_options.include_usage
            pieces = stream(way.events(), shape, accepted.prompt_tokens, with_usage=with_usage)
            return Relayed(pieces, way)
        answer = await unless_gone(request, whole(way.events(), shape, accepted.prompt_tokens))
        fleet.answers.add(1, way.replica)
    except BaseException:
        await way.aclose()
        raise
    return JSONResponse(answer, headers=_who(way))


class Relayed(StreamingResponse):
    """A stream whose replica hears of it when the client goes."""

    def __init__(self, pieces: AsyncIterator[str], way: Relay) -> None:
        headers = {"Cache-Control": "no-cache", **_who(way)}
        super().__init__(pieces, media_type="text/event-stream", headers=headers)
        self._way = way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._way):
            await super().__call__(scope, receive, send)


def _who(way: Relay) -> dict[str, str]:
    return {REPLICA: way.replica} | ({PREFILL: way.prefill} if way.prefill else {})


def _complaint(leg: Leg) -> BadRequest:
    """What a replica has against a request, in its own words."""
    status = leg.answer.status_code
    try:
        error = leg.answer.json()["error"]
        return BadRequest(str(error["message"]), param=error["param"], status=status, code=error["code"])
    except (ValueError, KeyError, TypeError):
        return BadRequest(f"replica {leg.replica} answered HTTP {status}", status=502)
