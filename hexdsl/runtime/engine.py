"""Rank 0's engine: takes requests, keeps up to one step per pipeline stage under way, gives back text as it comes."""

from __future__ import annotations

import itertools
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hexdsl.runtime.config import EngineConfig
from hexdsl.runtime.measures import Measures
from hexdsl.runtime.rank import Rank
from hexdsl.runtime.scheduler import Sampling, Scheduler, Work
from hexdsl.runtime.scheduler import Sequence as Scheduled
from hexdsl.runtime.step import Step
from hexdsl.runtime.text import Decode, Detokenizer, StopFilter

BEAT = 60.0
"""Seconds without work after which an empty step goes round, so that no receive of an idle rank times out."""

Finish = Literal["stop", "length"]


class Busy(Exception):
    """The queue is full."""


class Stopping(Exception):
    """The engine takes no more requests."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something new about a request: text (may be empty), the number of its tokens so far, how it ended."""

    text: str = ""
    tokens: int = 0
    finish: Finish | None = None
    error: str | None = None

    @property
    def last(self) -> bool:
        return self.finish is not None or self.error is not None


@dataclass(slots=True, eq=False)
class Job:
    """A live request: its sequence, the way from tokens to text, and whom to tell."""

    sequence: Scheduled
    detokenizer: Detokenizer
    filter: StopFilter
    emit: Callable[[Event], None]
    arrived: float = field(default_factory=time.monotonic)
    first: float | None = None


class Engine:
    """`submit` and `cancel` may be called from any thread; `run` is the engine's own thread."""

    def __init__(self, config: EngineConfig, rank: Rank, decode: Decode, end_tokens: frozenset[int]) -> None:
        self.config, self._rank = config, rank
        self._decode, self._end_tokens = decode, end_tokens
        self.scheduler = Scheduler(config.limits, config.kv, len(config.stages))
        self.measures = Measures(self.scheduler, self.waiting)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ids = itertools.count()
        self._jobs: dict[int, Job] = {}
        self._flying: deque[tuple[Step, Work]] = deque()
        self._stopping = False

    def waiting(self) -> int:
        return len(self.scheduler.waiting) + self._inbox.qsize()

    def submit(
        self, prompt: Sequence[int], sampling: Sampling, stops: Sequence[str], emit: Callable[[Event], None]
    ) -> int:
        """Queues a request and returns its number.  Raises `Busy` where the queue is full, `Stopping` at the end."""
        if self._stopping:
            raise Stopping
        if self.waiting() >= self.config.limits.max_queue + self._seats():
            raise Busy
        sequence = Scheduled(next(self._ids), tuple(prompt), sampling)
        job = Job(sequence, Detokenizer(self._decode, prompt), StopFilter(stops), emit)
        self._inbox.put(lambda: self._enter(job))
        return sequence.id

    def cancel(self, request: int) -> None:
        """The client has gone: the request ends and its blocks come back.  Harmless for one that has ended."""
        self._inbox.put(lambda: self._drop(request))

    def stop(self) -> None:
        self._stopping = True
        self._inbox.put(None)

    def run(self) -> None:
        """Steps until stopped; then tells the other ranks to stop."""
        while not self._stopping:
            self._hear(block=not self._busy())
            while len(self._flying) < len(self.config.stages) and self._launch():
                pass
            if self._flying:
                self._collect()
        self._wind_up()

    def _seats(self) -> int:
        return max(0, self.config.limits.max_batch - len(self.scheduler.running))

    def _busy(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def _hear(self, *, block: bool) -> None:
        """Does what has been asked for; while there is no work, waits, and beats."""
        try:
            message = self._inbox.get(block=block, timeout=BEAT)
            while message:
                message()
                message = self._inbox.get_nowait()
        except queue.Empty:
            if block and not self._busy():
                self._send(Step("beat"))

    def _launch(self) -> bool:
        """Sends the next step on its way; False where there is nothing to compute now."""
        work = self.scheduler.plan()
        if not work:
            return False
        step = Step("run", tuple(chunk for _, chunk in work))
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
        self.measures.prompt_tokens.add(len(job.sequence.prompt))
        self.scheduler.add(job.sequence)

    def _drop(self, request: int) -> None:
        if job := self._jobs.pop(request, None):
            self.scheduler.end(job.sequence)
            self.measures.requests.add(1, "cancelled")

    def _take(self, job: Job, token: int) -> None:
        """A new token of a request: its text, and whether it is the last."""
        job.sequence.tokens.append(token)
        self._clock(job)
        ended = token in self._end_tokens
        text = "" if ended else job.filter.push(job.detokenizer.push(token))
        finish: Finish | None = "stop" if ended or job.filter.stopped else None
        if finish is None and job.sequence.produced == job.sequence.sampling.max_tokens:
            finish = "length"
        if finish and not job.filter.stopped:
            text += self._rest(job)
            finish = "stop" if job.filter.stopped else finish
        if finish:
            # Before the client hears of it, so that who asks next finds the seat and the blocks free.
            self._finish(job, finish)
        job.emit(Event(text, job.sequence.produced, finish))

    def _clock(self, job: Job) -> None:
        self.measures.generated_tokens.add()
        if job.first is None:
            job.first = time.monotonic()
            self.measures.ttft.observe(job.first - job.arrived)

    def _rest(self, job: Job) -> str:
        """What was held back, now that no more will come."""
        text = job.filter.push(job.detokenizer.flush())
        return text if job.filter.stopped else text + job.filter.flush()

    def _finish(self, job: Job, finish: Finish) -> None:
        del self._jobs[job.sequence.id]
        self.scheduler.end(job.sequence)
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
