"""A peer of chains: computes its layers for whoever's requests come by, and leads those that begin with it.

One thread does it all.  What waits is computed in one step, as far as the token budget goes; requests that want other
layers of this peer are computed apart.  A request takes the blocks of all positions that it may come to when its first
work comes, on every peer of its chain, so that it never has to give any back; a peer without room says so.  The first
peer of a chain has the tokens: it sends the prompt's chunks down the chain one after the other, gets a token back from
the last peer, and sends that.
"""

from __future__ import annotations

import itertools
import queue
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hexdsl.runtime.blocks import BlockPool
from hexdsl.runtime.chain_config import PeerConfig
from hexdsl.runtime.chain_wire import Frame, Links, Place
from hexdsl.runtime.engine import Busy, Job, Stopping
from hexdsl.runtime.events import Event
from hexdsl.runtime.metrics import Counter as Sum
from hexdsl.runtime.metrics import Gauge, render
from hexdsl.runtime.model import Stage
from hexdsl.runtime.sampling import choose
from hexdsl.runtime.scheduler import Sampling
from hexdsl.runtime.scheduler import Sequence as Scheduled
from hexdsl.runtime.step import Chunk, Draw, Step
from hexdsl.runtime.text import Decode, Detokenizer, StopFilter

REMEMBERED = 4096
"""Requests whose end is remembered: their work may come later than the word that they have ended."""

Key = tuple[str, int]
"""A request: the peer that leads it, and its number there."""

Chain = tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """A frame for this peer, with the tokens where it is the first of the chain, else with the hidden state."""

    frame: Frame
    tokens: tuple[int, ...] = ()
    hidden: Tensor | None = None

    @property
    def key(self) -> Key:
        return self.frame.head, self.frame.request


@dataclass(slots=True, eq=False)
class Led:
    """A request that begins with this peer."""

    job: Job
    chain: Chain
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Guest:
    """A request that has blocks here, whoever leads it."""

    blocks: list[int]
    chain: Chain


class PeerEngine:
    """`run` is the engine's own thread; every other public method may be called from any thread."""

    def __init__(
        self, config: PeerConfig, stage: Stage, width: int, decode: Decode, end_tokens: frozenset[int]
    ) -> None:
        self.config, self._stage, self._width = config, stage, width
        self._decode, self._end_tokens = decode, end_tokens
        self._dtype: torch.dtype = getattr(torch, config.model.dtype)
        self.pool = BlockPool(config.kv.blocks)
        self.links = Links(config.peer, lambda name: self._inbox.put(lambda: self._lost(name)))
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._led: dict[int, Led] = {}
        self._guests: dict[Key, Guest] = {}
        self._ended: OrderedDict[Key, None] = OrderedDict()
        self._pending: deque[Work] = deque()
        self._ids = itertools.count()
        self._stopping = False
        self._steps = Sum("hexc_peer_steps_total", "Steps that were computed.")
        self._tokens = Sum("hexc_peer_tokens_total", "Positions that were computed.")
        self._lost_peers = Sum("hexc_peer_lost_total", "Connections to other peers that ended.")

    # What others ask for.

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        stops: Sequence[str],
        emit: Callable[[Event], None],
        resume: Sequence[int],
        chain: Chain,
    ) -> int:
        """Begins a request that goes over a chain.  Raises `Busy` where there is no room, `Stopping` at the end."""
        if self._stopping:
            raise Stopping
        if self.live() >= self.config.limits.max_batch + self.config.limits.max_queue:
            raise Busy
        sequence = Scheduled(next(self._ids), tuple(prompt), sampling)
        sequence.tokens += resume
        job = Job(sequence, Detokenizer(self._decode, prompt), StopFilter(stops), emit)
        job.replay(resume)
        self._inbox.put(lambda: self._begin(Led(job, chain)))
        return sequence.id

    def cancel(self, request: int) -> None:
        """The client has gone.  Harmless for a request that has ended."""
        self._inbox.put(lambda: self._end(request))

    def hear(self, frame: Frame, body: bytearray) -> None:
        """A frame from another peer."""
        self._inbox.put(lambda: self._take(frame, body))

    def gone(self, sender: str) -> None:
        """A peer's connection to this one has ended: nobody leads its requests any more."""
        self._inbox.put(lambda: self._forget(sender))

    def live(self) -> int:
        """Requests that begin here and have not ended."""
        return len(self._led) + self._inbox.qsize()

    def stop(self) -> None:
        self._stopping = True
        self._inbox.put(None)

    def metrics(self) -> str:
        gauges = (
            Gauge("hexc_requests_running", "Requests that have blocks here.", lambda: len(self._guests)),
            Gauge("hexc_requests_led", "Requests that begin here.", lambda: len(self._led)),
            Gauge("hexc_kv_blocks_used", "KV blocks that requests hold.", lambda: self.pool.used),
            Gauge("hexc_kv_blocks_total", "KV blocks in the pool.", lambda: self.pool.total),
        )
        return render((self._steps, self._tokens, self._lost_peers, *gauges))

    def run(self) -> None:
        """Computes until stopped."""
        while not self._stopping:
            self._hear()
            if work := self._next():
                self._step(work)
        for led in list(self._led.values()):
            led.job.emit(Event(error="the peer is stopping"))

    # The step.

    def _hear(self) -> None:
        message = self._inbox.get() if not self._pending else (lambda: None)
        while message:
            message()
            message = None if self._inbox.empty() else self._inbox.get_nowait()

    def _next(self) -> list[Work]:
        """What waits, in order, as far as the token budget goes."""
        found, tokens = list[Work](), 0
        while self._pending and (
            not found or tokens + self._pending[0].frame.count <= self.config.limits.prefill_chunk_tokens
        ):
            work = self._pending.popleft()
            if work.key in self._guests:
                found.append(work)
                tokens += work.frame.count
        return found

    def _step(self, works: Sequence[Work]) -> None:
        spans: dict[tuple[int, int], list[Work]] = {}
        for work in works:
            spans.setdefault((work.frame.place.first, work.frame.place.end), []).append(work)
        for span, members in spans.items():
            self._steps.add()
            self._tokens.add(sum(w.frame.count for w in members))
            self._compute(span, members)

    def _compute(self, span: tuple[int, int], works: Sequence[Work]) -> None:
        """The layers `[first, end)` for all of these, and what comes of it on its way."""
        first = self.config.layers[0]
        step = Step("run", tuple(self._chunk(work) for work in works))
        rows = [w.hidden for w in works if w.hidden is not None]
        hidden = self._stage.hidden(step, torch.cat(rows) if rows else None, slice(span[0] - first, span[1] - first))
        if step.draws and span[1] == self.config.total_layers:
            tokens = choose(self._stage.logits(step, hidden), step.draws)
            drawn = (w for w in works if w.frame.draw)
            for work, token in zip(drawn, tokens, strict=True):
                self._say(work.frame, "token", token)
        for work, part in zip(works, torch.split(hidden, [w.frame.count for w in works]), strict=True):
            if not work.frame.last:
                self._pass_on(work.frame, part)

    def _chunk(self, work: Work) -> Chunk:
        frame = work.frame
        draw = frame.draw if frame.last else None
        return Chunk(work.tokens or (0,) * frame.count, frame.start, tuple(self._guests[work.key].blocks), draw)

    def _pass_on(self, frame: Frame, hidden: Tensor) -> None:
        body = hidden.contiguous().cpu().view(torch.uint8).numpy().tobytes()
        following = frame.model_copy(update={"hop": frame.hop + 1, "bytes": len(body)})
        if following.place.name == self.config.peer:
            self._take(following, bytearray(body))
        else:
            self.links.send(following.place, following, body)

    def _say(self, frame: Frame, kind: Literal["token", "full", "broken"], token: int = 0) -> None:
        """Something to the first peer of a chain."""
        said = Frame(kind=kind, head=frame.head, request=frame.request, token=token, by=self.config.peer)
        if frame.head == self.config.peer:
            self._take(said, bytearray())
        else:
            self.links.send(frame.chain[0], said)

    # What comes.

    def _take(self, frame: Frame, body: bytearray) -> None:
        match frame.kind:
            case "work" if self._fits(frame, len(body)):
                self._admit(Work(frame, hidden=self._hidden(frame, body)))
            case "work" if frame.chain:
                self._say(frame, "broken")
            case "close":
                self._free((frame.head, frame.request))
            case "token" if led := self._mine(frame):
                self._drawn(led, frame.token)
            case "full" | "broken" if led := self._mine(frame):
                self._fail(led, f"peer {frame.by} {'is full' if frame.kind == 'full' else 'cannot go on'}")

    def _mine(self, frame: Frame) -> Led | None:
        return self._led.get(frame.request) if frame.head == self.config.peer else None

    def _fits(self, frame: Frame, size: int) -> bool:
        """Whether a work can be done here: it is for this peer and its layers, and of the size that it says."""
        if not 0 < frame.hop < len(frame.chain) or not frame.count:
            return False
        place, (first, end) = frame.place, self.config.layers
        right = place.name == self.config.peer and first <= place.first < place.end <= end
        return right and size == frame.count * self._width * self._dtype.itemsize

    def _hidden(self, frame: Frame, body: bytearray) -> Tensor:
        return torch.frombuffer(body, dtype=self._dtype).view(frame.count, -1).to(self._stage.device)

    def _admit(self, work: Work) -> None:
        """The work waits for the next step, its request has its blocks; or it is told that there is no room."""
        frame, key = work.frame, work.key
        if key in self._ended:
            return
        if key not in self._guests:
            need = self.config.kv.blocks_for(frame.reserve)
            if frame.start or need > self.pool.free or len(self._guests) >= self.config.limits.max_batch:
                self._end_of(key)
                self._say(frame, "full")
                return
            self._guests[key] = Guest(self.pool.take(need), frame.chain)
        if frame.start + frame.count <= len(self._guests[key].blocks) * self.config.kv.block_tokens:
            self._pending.append(work)
        else:
            self._say(frame, "broken")

    def _free(self, key: Key) -> None:
        self._end_of(key)
        if guest := self._guests.pop(key, None):
            self.pool.give_back(guest.blocks)

    def _end_of(self, key: Key) -> None:
        self._ended[key] = None
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def _forget(self, sender: str) -> None:
        for key in [key for key in self._guests if key[0] == sender]:
            self._free(key)

    # Requests that begin here.

    def _begin(self, led: Led) -> None:
        request = led.job.sequence.id
        self._led[request] = led
        for place in led.chain:
            if place.name != self.config.peer:
                self.links.watch(place)
        self._send_on(led)

    def _send_on(self, led: Led) -> None:
        """The tokens that the chain has not seen, in chunks; the last one is drawn after."""
        sequence = led.job.sequence
        while led.sent < len(sequence.tokens) and sequence.id in self._led:
            start = led.sent
            led.sent = min(len(sequence.tokens), start + self.config.limits.prefill_chunk_tokens)
            how, whole = sequence.sampling, led.sent == len(sequence.tokens)
            draw = Draw(how.temperature, how.top_p, how.seed, sequence.produced) if whole else None
            frame = Frame(
                kind="work", head=self.config.peer, request=sequence.id, chain=led.chain, start=start,
                count=led.sent - start, reserve=len(sequence.prompt) + how.max_tokens, draw=draw,
            )  # fmt: skip
            self._admit(Work(frame, tuple(sequence.tokens[start : led.sent])))

    def _drawn(self, led: Led, token: int) -> None:
        text, finish = led.job.take(token, self._end_tokens)
        if finish:
            # Before the client hears of it, so that who asks next finds the seat and the blocks free.
            self._end(led.job.sequence.id)
        led.job.emit(Event(text, led.job.sequence.produced, token, finish))
        if not finish:
            self._send_on(led)

    def _fail(self, led: Led, why: str) -> None:
        self._end(led.job.sequence.id)
        led.job.emit(Event(error=why))

    def _end(self, request: int) -> None:
        """The request is over: every peer of its chain has its blocks back."""
        led = self._led.pop(request, None)
        if led is None:
            return
        over = Frame(kind="close", head=self.config.peer, request=request)
        self._free((self.config.peer, request))
        for name, place in {place.name: place for place in led.chain}.items():
            if name != self.config.peer:
                self.links.send(place, over)

    def _lost(self, name: str) -> None:
        """A peer cannot be reached: requests that begin here end, and the first peers of others are told."""
        self._lost_peers.add()
        for (head, request), guest in list(self._guests.items()):
            if name not in {place.name for place in guest.chain} or name == head:
                continue
            if head == self.config.peer:
                self._fail(self._led[request], f"peer {name} is gone")
            else:
                self._say(Frame(kind="close", head=head, request=request, chain=guest.chain), "broken")
