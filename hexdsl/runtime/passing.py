"""Requests passed on as they are to servers with OpenAI's API: one that does it all, or a prefill and then a decode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hexdsl.runtime.api import BadRequest
from hexdsl.runtime.fleet import Fleet
from hexdsl.runtime.handover import decode_of, prefill_of
from hexdsl.runtime.routing import Table, Wheel
from hexdsl.runtime.web import unless_gone

PASSED = ("content-type", "cache-control", "retry-after", "www-authenticate")
"""Headers of a replica's answer that the client gets."""

OVER = (429, 503)
"""A replica that answers so is full or stopping: another one may have room."""

REPLICA, PREFILL = "x-hexc-replica", "x-hexc-prefill"


@dataclass(frozen=True)
class Found:
    """A replica's answer, its body still to come, and who prefilled where that was another one."""

    replica: str
    answer: httpx.Response
    prefill: str = ""

    @property
    def refused(self) -> bool:
        return self.answer.status_code in OVER


async def pass_on(fleet: Fleet, request: Request, body: bytes) -> Response:
    """A replica's answer, as it comes."""
    found = await unless_gone(request, Passing(fleet, request).ask(body))
    fleet.answers.add(1, found.replica)
    return Passage(found)


class Passing:
    """One request on its way to a replica that answers it, or to two."""

    def __init__(self, fleet: Fleet, request: Request) -> None:
        self._fleet, self._table, self._request = fleet, fleet.table, request

    async def ask(self, body: bytes) -> Found:
        """The first answer that is not a refusal; the last refusal if all refuse.

        Where nobody prefills any more, the replicas that decode are asked for the whole work.
        """
        last: Found | None = None
        for entry in self._table.entries.turns():
            last = await self._enter(self._table, entry, body) or last
            if last and not last.refused:
                return last
        last = await self._first(self._table.decodes, body) or last
        if last is None:
            raise BadRequest("no replica can be reached", status=503)
        return last

    async def _enter(self, table: Table, entry: str, body: bytes) -> Found | None:
        """The answer of a replica that does both, or that of one that decodes what `entry` prefilled."""
        if table.replicas[entry].role == "both":
            return await self._try(entry, body)
        half = prefill_of(body)
        if half is None:
            return await self._first(table.decodes, body)
        found = await self._try(entry, half, read=True)
        if found is None or found.answer.status_code != 200:
            return found
        self._fleet.handovers.add(1, entry)
        decoded = await self._first(table.targets(entry), decode_of(body, found.answer.content))
        return decoded and replace(decoded, prefill=entry)

    async def _first(self, wheel: Wheel, body: bytes) -> Found | None:
        """The first answer of a wheel that is not a refusal, else the last refusal; None if none can be reached."""
        last: Found | None = None
        for name in wheel.turns():
            last = await self._try(name, body) or last
            if last and not last.refused:
                break
        return last

    async def _try(self, name: str, body: bytes, *, read: bool = False) -> Found | None:
        """The replica's answer; None where it cannot be reached or dies before it answers.  Refusals are read whole."""
        request, client = self._request, self._fleet.client
        keep = {k: v for k, v in request.headers.items() if k in ("content-type", "authorization", "accept")}
        url = self._table.replicas[name].url + request.url.path
        try:
            sent = client.build_request(request.method, url, content=body, headers=keep)
            answer = await client.send(sent, stream=True)
            if read or answer.status_code in OVER:
                await answer.aread()
        except httpx.TransportError:
            self._fleet.refused(name)
            return None
        self._fleet.answered(name)
        return Found(name, answer)


class Passage(StreamingResponse):
    """A replica's answer on its way to the client.  When the client goes, so does the connection to the replica."""

    def __init__(self, found: Found) -> None:
        answer = found.answer
        headers = {name: answer.headers[name] for name in PASSED if name in answer.headers}
        who = {REPLICA: found.replica} | ({PREFILL: found.prefill} if found.prefill else {})
        super().__init__(_pieces(answer), answer.status_code, {**headers, **who})
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.aclose()


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes; a replica that dies in the middle ends it (without [DONE], in a stream)."""
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    except httpx.HTTPError:
        return
