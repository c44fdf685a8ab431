"""The queue in front of a replica: first come first served, or by priority; preempted jobs go before all equals."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from hexdsl.sim.job import Job


class Waiting:
    """A queue of jobs from which any can be withdrawn."""

    def __init__(self, by_priority: bool) -> None:
        self._by_priority = by_priority
        self._heap: list[tuple[int, int, int, Job]] = []
        self._back, self._front = count(1), count(-1, -1)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, job: Job) -> None:
        job.order = next(self._back)
        self._push(job, job.order)

    def add_first(self, job: Job) -> None:
        """For preempted jobs.  By priority, they keep the place that they had."""
        self._push(job, job.order if self._by_priority else next(self._front))

    def head(self) -> Job:
        while self._heap[0][3].state != "waiting" or self._heap[0][2] != self._heap[0][3].ticket:
            heappop(self._heap)
        return self._heap[0][3]

    def pop(self) -> Job:
        job = self.head()
        heappop(self._heap)
        self._size -= 1
        return job

    def withdraw(self, job: Job) -> None:
        """The job is skipped from now on; its state must be changed by the caller."""
        self._size -= 1

    def drain(self) -> list[Job]:
        """All jobs, in order."""
        return [self.pop() for _ in range(self._size)]

    def _push(self, job: Job, order: int) -> None:
        job.state = "waiting"
        job.ticket += 1
        heappush(self._heap, (job.request.priority if self._by_priority else 0, order, job.ticket, job))
        self._size += 1
