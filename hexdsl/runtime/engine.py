"""Rank 0's engine: takes requests, keeps up to one step per pipeline stage under way, gives back text as it comes."""

from __future__ import annotations

import itertools
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from hexdsl.runtime.config import EngineConfig, Limits, Role
from hexdsl.runtime.events import Event, Finish
from hexdsl.runtime.kv_wire import Word
from hexdsl.runtime.measures import Measures
from hexdsl.runtime.rank import Rank
from hexdsl.runtime.scheduler import Sampling, Scheduler, Work
from hexdsl.runtime.scheduler import Sequence as Scheduled
from hexdsl.runtime.step import Step
from hexdsl.runtime.text import Decode, Detokenizer, StopFilter
from hexdsl.runtime.transfers import Arrival, Departure, Ended, Lost, Transfers, Way, fail, resolve

BEAT = 60.0
"""Seconds without work after which an empty step goes round, so that no receive of an idle rank times out."""


class Busy(Exception):
    """The queue is full."""


class Stopping(Exception):
    """The engine takes no more requests."""


@dataclass(slots=True, eq=False)
class Job:
    """A live request: its sequence, the way from tokens to text, and whom to tell.

    `begun`, where somebody waits for it, comes true with the first step; the request then halts after the token that
    follows its prompt.  `halted` gets the answer's tokens once it stands still.
    """

    sequence: Scheduled
    detokenizer: Detokenizer
    filter: StopFilter
    emit: Callable[[Event], None]
    begun: Future[None] | None = None
    halted: Future[tuple[int, ...]] | None = None
    arrived: float = field(default_factory=time.monotonic)
    first: float | None = None

    def replay(self, tokens: Sequence[int]) -> None:
        """Tokens whose text the client has already."""
        for token in tokens:
            self.filter.push(self.detokenizer.push(token))

    def told(self) -> tuple[int, ...]:
        return tuple(self.sequence.tokens[len(self.sequence.prompt) :])

    def take(self, token: int, end_tokens: frozenset[int]) -> tuple[str, Finish | None]:
        """A new token of the answer: its text, and how the answer ends if this is the last."""
        self.sequence.tokens.append(token)
        ended = token in end_tokens
        text = "" if ended else self.filter.push(self.detokenizer.push(token))
        finish: Finish | None = "stop" if ended or self.filter.stopped else None
        if finish is None and self.sequence.produced == self.sequence.sampling.max_tokens:
            finish = "length"
        if finish and not self.filter.stopped:
            text += self._rest()
            finish = "stop" if self.filter.stopped else finish
        return text, finish

    def _rest(self) -> str:
        """What was held back, now that no more will come."""
        text = self.filter.push(self.detokenizer.flush())
        return text if self.filter.stopped else text + self.filter.flush()


class Engine:
    """`run` is the engine's own thread; every other public method may be called from any thread."""

    def __init__(self, config: EngineConfig, rank: Rank, decode: Decode, end_tokens: frozenset[int]) -> None:
        self.config, self._rank = config, rank
        self.role: Role = config.role
        self._decode, self._end_tokens = decode, end_tokens
        self.scheduler = Scheduler(config.limits, config.kv, len(config.stages))
        self.transfers = Transfers(config.world)
        self.measures = Measures(self.scheduler, self.transfers, self.waiting)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ids = itertools.count()
        self._jobs: dict[int, Job] = {}
        self._flying: deque[tuple[Step, Work]] = deque()
        self._stopping = False

    def waiting(self) -> int:
        return len(self.scheduler.waiting) + self._inbox.qsize()

    def live(self) -> int:
        """Requests that have not ended here."""
        return len(self._jobs) + self._inbox.qsize()

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        stops: Sequence[str],
        emit: Callable[[Event], None],
        resume: Sequence[int] = (),
        begun: Future[None] | None = None,
    ) -> int:
        """Queues a request and returns its number.  Raises `Busy` where the queue is full, `Stopping` at the end.

        `resume` are tokens of the answer that the client has; with `begun` the request halts after its next one.
        """
        job = self._job(prompt, sampling, stops, emit, resume)
        job.begun = begun
        self._inbox.put(lambda: self._enter(job))
        return job.sequence.id

    def arrive(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        stops: Sequence[str],
        emit: Callable[[Event], None],
        resume: Sequence[int],
    ) -> Arrival:
        """Queues a request whose KV, of prompt and `resume`, will come from another replica.  Raises like `submit`."""
        job = self._job(prompt, sampling, stops, emit, resume)
        arrival = self.transfers.arrival(job.sequence)
        self._inbox.put(lambda: self._enter(job))
        self._inbox.put(lambda: self.transfers.expect(arrival))
        return arrival

    def begin(self, arrival: Arrival, rest: Sequence[int]) -> None:
        """The tokens that follow those whose KV comes: the request may go on, and `arrival.live` tells when it does."""
        self._inbox.put(lambda: self._welcome(arrival if self.transfers.begin(arrival, tuple(rest)) else None))

    def heard(self, transfer: str, word: Word, rank: int) -> None:
        """A rank's word about a transfer."""
        self._inbox.put(lambda: self._welcome(self.transfers.hear(transfer, word, rank)))

    def depart(self, request: int, way: Way) -> Future[tuple[int, ...]]:
        """Sends a request's KV as it is computed.  The future gets the answer's tokens once all of it has left."""
        shipped: Future[tuple[int, ...]] = Future()
        self._inbox.put(lambda: self._depart(request, way, shipped))
        return shipped

    def halt(self, request: int) -> Future[tuple[int, ...]]:
        """The request stands still; the future gets the answer's tokens then.  `Lost` before its first token."""
        halted: Future[tuple[int, ...]] = Future()
        self._inbox.put(lambda: self._halt(request, halted))
        return halted

    def go_on(self, request: int) -> None:
        """The request goes nowhere: it is computed further here."""
        self._inbox.put(lambda: self._go_on(request))

    def cancel(self, request: int, outcome: Literal["cancelled", "moved"] = "cancelled") -> None:
        """The client has gone, or another replica goes on: the request ends here and its blocks come back.

        Harmless for one that has ended.
        """
        self._inbox.put(lambda: self._drop(request, outcome))

    def become(self, role: Role, limits: Limits) -> None:
        """Another half of the work, with other limits; what is under way goes on."""
        self.role, self.scheduler.limits = role, limits

    def stop(self) -> None:
        self._stopping = True
        self._inbox.put(None)

    def run(self) -> None:
        """Steps until stopped; then tells the other ranks to stop."""
        idle = True
        while not self._stopping:
            self._hear(block=idle)
            preempted = self.scheduler.preemptions
            while len(self._flying) < len(self.config.stages) and self._launch():
                pass
            idle = not self._flying and self.scheduler.preemptions == preempted
            if self._flying:
                self._collect()
            self.transfers.settle()
        self._wind_up()

    def _job(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        stops: Sequence[str],
        emit: Callable[[Event], None],
        resume: Sequence[int],
    ) -> Job:
        if self._stopping:
            raise Stopping
        if self.waiting() >= self.scheduler.limits.max_queue + self._seats():
            raise Busy
        sequence = Scheduled(next(self._ids), tuple(prompt), sampling)
        sequence.tokens += resume
        job = Job(sequence, Detokenizer(self._decode, prompt), StopFilter(stops), emit)
        job.replay(resume)
        return job

    def _seats(self) -> int:
        return max(0, self.scheduler.limits.max_batch - self.scheduler.seated)

    def _hear(self, *, block: bool) -> None:
        """Does what has been asked for; while there is nothing to compute, waits, and beats."""
        try:
            message = self._inbox.get(block=block, timeout=BEAT)
        except queue.Empty:
            if block:
                self._send(Step("beat"))
            return
        while message:
            message()
            message = None if self._inbox.empty() else self._inbox.get_nowait()

    def _launch(self) -> bool:
        """Sends the next step on its way; False where there is nothing to compute or to move now."""
        work = self.scheduler.plan()
        moves = self.transfers.take_moves(work)
        if not work and not moves:
            return False
        for sequence, _ in work:
            if (job := self._jobs.get(sequence.id)) and job.begun:
                resolve(job.begun, None)
        step = Step("run", tuple(chunk for _, chunk in work), moves)
        self._flying.append((step, work))
        self._send(step)
        return True

    def _send(self, step: Step) -> None:
        self._rank.pipe.share(step)
        self._rank.run(step, None)

    def _collect(self) -> None:
        step, work = self._flying.popleft()
        tokens = self._rank.pipe.collect(len(step.draws))
        for sequence, token in zip(self.scheduler.settle(work), tokens, strict=True):
            if job := self._jobs.get(sequence.id):
                self._take(job, token)

    def _enter(self, job: Job) -> None:
        self._jobs[job.sequence.id] = job
        if not job.sequence.parked:
            self.measures.prompt_tokens.add(len(job.sequence.prompt))
        self.scheduler.add(job.sequence)

    def _drop(self, request: int, outcome: str) -> None:
        if job := self._jobs.pop(request, None):
            self._end(job)
            self.measures.requests.add(1, outcome)

    def _end(self, job: Job) -> None:
        self.transfers.forget(job.sequence)
        if job.halted:
            fail(job.halted, Ended())
        self.scheduler.end(job.sequence)

    def _welcome(self, arrival: Arrival | None) -> None:
        """An arrival is complete: from here on it is a request like any other."""
        if arrival and (job := self._jobs.get(arrival.sequence.id)):
            self.transfers.go_live(arrival)
            job.replay(arrival.rest)
            job.first = time.monotonic()
            self.measures.arrivals.add()

    def _depart(self, request: int, way: Way, shipped: Future[tuple[int, ...]]) -> None:
        if job := self._jobs.get(request):
            self.transfers.depart(Departure(job.sequence, way, shipped=shipped))
        else:
            fail(shipped, Ended())

    def _halt(self, request: int, halted: Future[tuple[int, ...]]) -> None:
        job = self._jobs.get(request)
        if job is None or job.sequence not in self.scheduler.running or job.sequence.pending > 1:
            fail(halted, Lost("the request has no KV to take along"))
            return
        job.halted = halted
        self._park(job)

    def _park(self, job: Job) -> None:
        job.sequence.parked = job.sequence.leaving = True
        if job.halted and not job.sequence.in_flight:
            resolve(job.halted, job.told())

    def _go_on(self, request: int) -> None:
        self.transfers.recall(request, Lost("the request stays"))
        if job := self._jobs.get(request):
            job.begun = job.halted = None
            job.sequence.parked = job.sequence.leaving = False

    def _take(self, job: Job, token: int) -> None:
        """A new token of a request."""
        text, finish = job.take(token, self._end_tokens)
        self._clock(job)
        if finish:
            # Before the client hears of it, so that who asks next finds the seat and the blocks free.
            self._finish(job, finish)
        elif job.begun or job.halted:
            self._park(job)
        job.emit(Event(text, job.sequence.produced, token, finish))

    def _clock(self, job: Job) -> None:
        self.measures.generated_tokens.add()
        if job.first is None:
            job.first = time.monotonic()
            self.measures.ttft.observe(job.first - job.arrived)

    def _finish(self, job: Job, finish: Finish) -> None:
        del self._jobs[job.sequence.id]
        self._end(job)
        self.measures.requests.add(1, finish)
        later = job.sequence.produced - 1
        if later and job.first is not None:
            self.measures.tpot.observe((time.monotonic() - job.first) / later)

    def _wind_up(self) -> None:
        self._hear(block=False)
        while self._flying:
            self._collect()
        for job in self._jobs.values():
            job.emit(Event(error="the server is stopping"))
        self._send(Step("stop"))
        self._rank.pipe.flush()
