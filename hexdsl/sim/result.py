"""What a simulation comes to: arrays with an entry per request, and what can be read off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hexdsl.sim.job import Job
from hexdsl.sim.replica import Replica
from hexdsl.sim.request import Request, Status
from hexdsl.sim.transfers import Network

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NEVER = float("nan")


class Records:
    """Columns that grow by one row a request."""

    def __init__(self) -> None:
        self.last_arrival_s = float("-inf")
        self.requests: list[Request] = []
        self.scheduled_s: list[float] = []
        self.first_token_s: list[float] = []
        self.finish_s: list[float] = []
        self.status: list[int] = []
        self.replica: list[int] = []
        self.generated: list[int] = []
        self.cached: list[int] = []
        self.preemptions: list[int] = []
        self.retries: list[int] = []

    def add(self, request: Request) -> int:
        """A new row; returns its number."""
        self.requests.append(request)
        for column in (self.scheduled_s, self.first_token_s, self.finish_s):
            column.append(NEVER)
        for numbers in (self.status, self.generated, self.cached, self.preemptions, self.retries):
            numbers.append(0)
        self.replica.append(-1)
        return len(self.requests) - 1

    def admitted(self, job: Job, now_s: float) -> None:
        """The first time counts."""
        if self.scheduled_s[job.row] != self.scheduled_s[job.row]:
            self.scheduled_s[job.row] = now_s

    def close(self, job: Job, status: Status, now_s: float) -> None:
        row = job.row
        self.finish_s[row] = now_s
        self.status[row] = status
        self.generated[row] = job.generated
        self.cached[row] = job.cached


@dataclass(frozen=True, slots=True)
class ReplicaResult:
    """A replica over time.  `time_s`, `waiting`, `running` and `kv` are samples that hold until the next one.

    `kv` is the share of the KV cache in use.  `busy_s` are the seconds, up to each sample, that the busiest member of
    the pipeline has been at work in steps that are over.  `utilisation` is the share of the time in which each member
    of the pipeline (stages, and the links between them) was at work.
    """

    name: str
    time_s: Floats
    waiting: Ints
    running: Ints
    kv: Floats
    busy_s: Floats
    kv_mean: float
    kv_peak: float
    utilisation: tuple[float, ...]
    usd_per_h: float


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Outcomes, one entry a request in the order of arrival; times in seconds, NaN where a request never got so far.

    `generated` is the answer that was made, `cached` the prompt tokens that did not have to be computed.
    """

    id: Ints
    arrival_s: Floats
    scheduled_s: Floats
    first_token_s: Floats
    finish_s: Floats
    status: Ints
    replica: Ints
    prompt: Ints
    output: Ints
    generated: Ints
    cached: Ints
    preemptions: Ints
    retries: Ints
    klass: tuple[str, ...]
    replicas: tuple[ReplicaResult, ...]
    link_utilisation: dict[str, float]
    end_s: float

    @property
    def start_s(self) -> float:
        return float(self.arrival_s[0]) if len(self.arrival_s) else 0.0

    @property
    def span_s(self) -> float:
        """From the first arrival to the end."""
        return self.end_s - self.start_s

    @property
    def done(self) -> NDArray[np.bool_]:
        return np.asarray(self.status == Status.finished)

    @property
    def ttft_s(self) -> Floats:
        return self.first_token_s - self.arrival_s

    @property
    def tpot_s(self) -> Floats:
        """Mean seconds between tokens after the first; 0 for answers of one token."""
        return np.asarray((self.finish_s - self.first_token_s) / np.maximum(self.generated - 1, 1))

    @property
    def latency_s(self) -> Floats:
        return self.finish_s - self.arrival_s

    def to_bytes(self) -> bytes:
        """The outcomes as bytes, to compare runs."""
        columns = (self.arrival_s, self.scheduled_s, self.first_token_s, self.finish_s, self.status, self.replica)
        return b"".join(c.tobytes() for c in (*columns, self.generated, self.cached, self.preemptions, self.retries))


def make_result(records: Records, replicas: Sequence[Replica], network: Network, end_s: float) -> Result:
    """Freezes what was recorded."""
    asked = records.requests
    start = asked[0].arrival_s if asked else 0.0
    span = max(end_s - start, 1e-12)
    return Result(
        id=_ints([r.id for r in asked]),
        arrival_s=_floats([r.arrival_s for r in asked]),
        scheduled_s=_floats(records.scheduled_s),
        first_token_s=_floats(records.first_token_s),
        finish_s=_floats(records.finish_s),
        status=_ints(records.status),
        replica=_ints(records.replica),
        prompt=_ints([r.prompt for r in asked]),
        output=_ints([r.output for r in asked]),
        generated=_ints(records.generated),
        cached=_ints(records.cached),
        preemptions=_ints(records.preemptions),
        retries=_ints(records.retries),
        klass=tuple(r.klass for r in asked),
        replicas=tuple(_replica_result(replica, span) for replica in replicas),
        link_utilisation={name: busy / span for name, busy in network.busy_s.items()},
        end_s=end_s,
    )


def _replica_result(replica: Replica, span: float) -> ReplicaResult:
    line, blocks = replica.timeline, replica.spec.engine.blocks
    return ReplicaResult(
        name=replica.spec.name,
        time_s=_floats(line.time_s),
        waiting=_ints(line.waiting),
        running=_ints(line.running),
        kv=_floats(line.used) / blocks,
        busy_s=_floats(line.busy),
        kv_mean=line.kv_block_s / span / blocks,
        kv_peak=line.peak_blocks / blocks,
        utilisation=tuple(busy / span for busy in line.busy_s),
        usd_per_h=replica.spec.usd_per_h,
    )


def _ints(values: Any) -> Ints:
    return np.array(values, dtype=np.int64)


def _floats(values: Any) -> Floats:
    return np.array(values, dtype=np.float64)
