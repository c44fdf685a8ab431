"""A request inside a replica, and the sequences that decode together."""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heappop, heappush

from hexdsl.sim.kv import Entry
from hexdsl.sim.request import Request


class Job:
    """A request on its way.  `tokens` counts prompt and answer, `computed` those with keys and values.

    While a job decodes in a lane, both are told by the lane's clock: `tokens` is `base` plus the steps of the lane.
    """

    __slots__ = (
        "base", "cached", "computed", "end", "generated", "held", "limit", "named", "order", "replica", "request",
        "row", "state", "ticket", "tokens",
    )  # fmt: skip

    def __init__(self, request: Request, row: int) -> None:
        self.request, self.row = request, row
        self.order = self.ticket = 0
        self.cached = 0
        self.replica = -1
        self.state = ""
        self.restart()

    def restart(self) -> None:
        """Nothing has been computed."""
        self.tokens = self.request.prompt
        self.computed = self.generated = self.named = 0
        self.base = self.end = 0
        self.limit = self.request.output
        self.held: list[Entry] = []


class Lane:
    """A batch of sequences that decode in step.  `steps` is its clock; sums over the jobs are kept up to date."""

    __slots__ = ("bases", "block", "chunks", "context", "ends", "filling", "jobs", "joining", "residues", "steps")

    def __init__(self, block: int) -> None:
        self.block = block
        self.steps = 0
        self.jobs: dict[Job, None] = {}
        self.filling: list[Job] = []
        self.joining: list[Job] = []
        self.chunks: list[tuple[Job, int]] = []
        self.context = 0
        self.bases: list[int] = []
        self.residues = [0] * block
        self.ends: list[tuple[int, int, Job]] = []

    @property
    def size(self) -> int:
        return len(self.jobs) + len(self.filling) + len(self.joining)

    def join(self, job: Job) -> None:
        """The job's prompt is computed: from now on it decodes, until it has `limit` tokens of answer."""
        base = job.base = job.tokens - self.steps
        self.jobs[job] = None
        self.context += job.tokens - 1
        insort(self.bases, base)
        self.residues[(1 - base) % self.block] += 1
        job.end = self.steps + job.limit - job.generated
        heappush(self.ends, (job.end, job.row, job))

    def leave(self, job: Job) -> None:
        """The job stops decoding here; `tokens` and `computed` are its own again."""
        del self.jobs[job]
        job.tokens = job.base + self.steps
        job.computed = job.tokens - 1
        job.generated = job.limit - (job.end - self.steps)
        self.context -= job.computed
        del self.bases[bisect_left(self.bases, job.base)]
        self.residues[(1 - job.base) % self.block] -= 1
        job.end = -1

    def advance(self, steps: int) -> None:
        self.steps += steps
        self.context += steps * len(self.jobs)

    def next_end(self) -> int:
        """The step after which the next job is done."""
        ends = self.ends
        while ends[0][0] != ends[0][2].end or ends[0][2] not in self.jobs:
            heappop(ends)
        return ends[0][0]

    def ended(self) -> list[Job]:
        """The jobs that are done, by now."""
        done: list[Job] = []
        ends = self.ends
        while ends and ends[0][0] <= self.steps:
            end, _, job = heappop(ends)
            current = job.end == end and job in self.jobs
            if current and not (done and done[-1] is job):  # a preempted job may be back with the same end
                done.append(job)
        return done

    def extremes(self) -> tuple[int, int]:
        """The shortest and the longest history among the decodes."""
        bases = self.bases
        return (bases[0] + self.steps - 1, bases[-1] + self.steps - 1) if bases else (0, 0)

    def need(self) -> int:
        """Blocks that the decodes need for the next step."""
        return self.residues[self.steps % self.block]

    def blocks_for(self, steps: int) -> int:
        """Blocks that the decodes need for so many steps from now on."""
        rounds, rest = divmod(steps, self.block)
        need = rounds * len(self.jobs)
        at = self.steps % self.block
        for i in range(at, at + rest):
            need += self.residues[i % self.block]
        return need
