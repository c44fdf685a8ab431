"""What a replica's next step computes: the rules of vLLM's V1 scheduler over lanes and a KV pool.

A step holds one token of every decoding sequence of a lane, then prompts in chunks within the token budget: those that
run first, then those that wait.  A pipeline of S stages has S lanes, so that each stage can be at work; a lane takes an
even share of the sequences.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hexdsl.sim.job import Job, Lane
from hexdsl.sim.kv import Entry, KvPool
from hexdsl.sim.prefix import Hit, look_up, name_computed, private_key
from hexdsl.sim.spec import EngineSpec
from hexdsl.sim.waiting import Waiting


class Grip(NamedTuple):
    """Blocks of a job that is in no lane: nameless ones, and those that others can read."""

    own: int
    held: list[Entry]


class Told(Protocol):
    """Who hears what the scheduler does."""

    def admitted(self, job: Job, now_s: float) -> None: ...

    def preempted(self, job: Job) -> None: ...

    def fetch(self, job: Job, now_s: float) -> None: ...


class Scheduler:
    """The queue, the lanes and the blocks of a replica.  `load` counts the requests that it has not finished.

    `seats` are taken by running jobs and by those whose KV cache is on its way here.  `stuck` says that the head of the
    queue found no seat or no blocks, which only the end of something can change.
    """

    def __init__(self, engine: EngineSpec, lanes: int, world: Told) -> None:
        self.engine, self.world = engine, world
        self.block = engine.block_size
        self.pool = KvPool(engine.blocks, engine.prefix_caching)
        self.waiting = Waiting(engine.policy == "priority")
        self.lanes = [Lane(self.block) for _ in range(lanes)]
        self.arriving: dict[Job, None] = {}
        self.seats = self.load = 0
        self.stuck = False

    def plan(self, lane: Lane, now_s: float) -> bool:
        """Decides the lane's next step: its decodes and `lane.chunks`.  Returns whether a job was preempted."""
        self._balance(lane)
        preempted = self._make_room(lane)
        budget = self.engine.max_num_batched_tokens - len(lane.jobs)
        if lane.filling:
            budget, cut_short = self._continue(lane, budget)
            preempted = preempted or cut_short
        self.pool.take(lane.need())
        self.stuck = False
        if self.waiting and not preempted:
            self._admit(lane, budget, now_s)
        return preempted

    def jobs(self) -> list[Job]:
        """All jobs that are here, the waiting ones taken out of the queue."""
        jobs = self.waiting.drain() + list(self.arriving)
        for lane in self.lanes:
            jobs += [*lane.jobs, *lane.filling, *lane.joining]
        return jobs

    def even(self) -> bool:
        """Whether no lane would give a sequence away."""
        sizes = [lane.size for lane in self.lanes]
        return max(sizes) - min(sizes) <= 1

    # Sequences

    def _balance(self, lane: Lane) -> None:
        """Takes in what has been given to the lane, and gives away what is more than its even share."""
        joining, lane.joining = lane.joining, []
        for job in joining:
            lane.join(job)
        if len(self.lanes) == 1:
            return
        surplus = len(lane.jobs) - self._share()
        others = [other for other in self.lanes if other is not lane]
        while surplus > 0:
            other = min(others, key=lambda o: o.size)
            if other.size + 1 >= lane.size:
                return
            job = next(reversed(lane.jobs))
            lane.leave(job)
            other.joining.append(job)
            surplus -= 1

    def _share(self) -> int:
        """Sequences that a lane may hold."""
        could = min(self.engine.max_num_seqs, self.seats + len(self.waiting))
        return -(-could // len(self.lanes))

    def _make_room(self, lane: Lane) -> bool:
        """Preempts until every decode has the block that it needs; whether any was."""
        preempted = False
        while lane.need() > self.pool.free:
            self._preempt(lane, self._victim(lane))
            preempted = True
        return preempted

    def _victim(self, lane: Lane) -> Job:
        """The tail of those that run; by priority, the least urgent that came last."""
        if self.engine.policy == "priority":
            fixed = {job for job, _ in lane.chunks}
            free = (job for job in (*lane.jobs, *lane.filling) if job not in fixed)
            return max(free, key=lambda j: (j.request.priority, j.order))
        return lane.filling[-1] if lane.filling else next(reversed(lane.jobs))

    def _preempt(self, lane: Lane, job: Job) -> None:
        """The job gives up its blocks and will be computed again from the start, or from what is still readable."""
        self.take_out(lane, job)
        grip = self.grip(job)
        start = sum(entry.count for entry in grip.held)
        full = job.computed // self.block - start
        entry = self.pool.name(private_key(job, start), full) if full > 0 else None
        if entry is None:
            self.give_back(grip)
        else:
            self.give_back(Grip(grip.own - full, [*grip.held, entry]))
        self.seats -= 1
        job.computed = 0
        self.waiting.add_first(job)
        self.world.preempted(job)

    def take_out(self, lane: Lane, job: Job) -> None:
        """A job leaves a lane that is in no step."""
        if job in lane.jobs:
            lane.leave(job)
        elif job in lane.filling:
            lane.filling.remove(job)
        else:
            lane.joining.remove(job)

    # Prompts

    def _continue(self, lane: Lane, budget: int) -> tuple[int, bool]:
        """The next chunk of prompts that are being computed; the budget left, and whether any job was preempted."""
        preempted = False
        for job in tuple(lane.filling):
            length = min(job.tokens - job.computed, budget)
            if length == 0 or job not in lane.filling:
                break
            need = self._blocks(job.computed + length) - self._blocks_of(job)
            while need + lane.need() > self.pool.free and job in lane.filling:
                self._preempt(lane, self._victim(lane))
                preempted = True
            if job not in lane.filling:
                break
            self._put(lane, job, length, need)
            budget -= length
        return budget, preempted

    def _admit(self, lane: Lane, budget: int, now_s: float) -> None:
        """Takes jobs from the queue while seats, budget and blocks last; never preempts.

        A job whose prompt was computed elsewhere has its KV cache fetched first.
        """
        share = self._share()
        while self.waiting and budget > 0 and lane.size < share:
            job = self.waiting.head()
            fits = self.seats < self.engine.max_num_seqs
            if fits and job.computed:
                fits = self._fetch(job, now_s)
            elif fits:
                length = self._enter(lane, job, budget, now_s)
                fits = length > 0
                budget -= length
            if not fits:
                self.stuck = True
                return

    def _enter(self, lane: Lane, job: Job, budget: int, now_s: float) -> int:
        """The first chunk of a waiting job: its length, 0 where it does not fit now."""
        pool = self.pool
        hit = look_up(pool, job, self.block)
        hit_blocks = hit.blocks
        computed = min(hit_blocks, (job.tokens - 1) // self.block) * self.block
        length = job.tokens - computed
        if length > budget:
            if not self.engine.chunked_prefill:
                return 0
            length = budget
        target = job.tokens if self.engine.reserve_full_prompt else computed + length
        if self._blocks(target) - hit_blocks > pool.free - hit.queued:
            return 0
        self.waiting.pop()
        self._claim(job, hit)
        job.computed = computed
        job.cached += computed
        job.state = "running"
        self.seats += 1
        lane.filling.append(job)
        self._put(lane, job, length, max(0, self._blocks(computed + length) - hit_blocks))
        self.world.admitted(job, now_s)
        return length

    def _claim(self, job: Job, hit: Hit) -> None:
        for entry in hit.whole:
            self.pool.claim(entry)
        job.held = list(hit.whole)
        job.named = len(hit.whole)
        for entry in hit.rest:
            self.pool.absorb(entry)

    def _put(self, lane: Lane, job: Job, length: int, blocks: int) -> None:
        self.pool.take(max(0, blocks))
        lane.chunks.append((job, length))
        if job.request.blocks:
            name_computed(self.pool, job, job.computed + length, self.block)

    def _fetch(self, job: Job, now_s: float) -> bool:
        """Sets blocks aside for a job whose prompt was computed elsewhere, and has them filled."""
        need = self._blocks(job.computed)
        if self._blocks(job.tokens) > self.pool.free:
            return False
        self.waiting.pop()
        self.pool.take(need)
        job.state = "arriving"
        job.named = len(job.request.blocks)
        self.seats += 1
        self.arriving[job] = None
        self.world.fetch(job, now_s)
        return True

    # Blocks

    def grip(self, job: Job) -> Grip:
        """The blocks of a job that has left its lane; they are not the job's any more."""
        if job.request.blocks:
            name_computed(self.pool, job, job.computed, self.block)
        held, job.held, job.named = job.held, [], 0
        return Grip(max(0, self._blocks(job.computed) - sum(entry.count for entry in held)), held)

    def let_go(self, job: Job) -> None:
        """A job that has left its lane is done here."""
        self.give_back(self.grip(job))
        self.seats -= 1
        self.load -= 1

    def give_back(self, grip: Grip) -> None:
        """Frees blocks, the last ones of the sequence first."""
        self.pool.give(grip.own)
        for entry in reversed(grip.held):
            self.pool.drop(entry)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block)

    def _blocks_of(self, job: Job) -> int:
        """Blocks that a job has while it is in no step."""
        return max(self._blocks(job.computed), sum(entry.count for entry in job.held))
