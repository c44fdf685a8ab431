"""One replica: the engine's scheduler, step by step (vLLM's V1 rules), over its lanes and its KV pool.

A step holds one token of every decoding sequence of a lane, then prompts in chunks within the token budget: those that
run first, then those that wait.  A pipeline of S stages has S lanes, so that each stage can be at work; a lane takes an
even share of the sequences, and its steps pass the members of the pipeline in order, each member one step at a time.
"""

from __future__ import annotations

from typing import Protocol

from hexdsl.sim.flight import Flight
from hexdsl.sim.job import Job, Lane
from hexdsl.sim.kv import Entry, KvPool
from hexdsl.sim.prefix import Hit, look_up, name_computed, private_key
from hexdsl.sim.spec import ReplicaSpec
from hexdsl.sim.steps import Batch
from hexdsl.sim.timeline import Timeline
from hexdsl.sim.waiting import Waiting


class World(Protocol):
    """What a replica tells the simulation."""

    def step_ends(self, at_s: float, replica: Replica, lane: Lane, version: int) -> None: ...

    def admitted(self, job: Job, now_s: float) -> None: ...

    def preempted(self, job: Job) -> None: ...

    def first_token(self, job: Job, now_s: float) -> None: ...

    def ended(self, job: Job, now_s: float) -> None: ...

    def hand_over(self, job: Job, grip: Grip, now_s: float) -> None: ...

    def fetch(self, job: Job, now_s: float) -> None: ...


class Grip:
    """Blocks of a job that is no longer in any lane, and where they are."""

    __slots__ = ("epoch", "held", "own", "replica")

    def __init__(self, replica: Replica, own: int, held: list[Entry]) -> None:
        self.replica, self.own, self.held, self.epoch = replica, own, held, replica.epoch


class Replica:
    """The state of a replica.  `load` counts the requests that it has not finished."""

    def __init__(self, spec: ReplicaSpec, index: int, world: World, max_jump: int) -> None:
        self.spec, self.index, self.world, self.max_jump = spec, index, world, max_jump
        self.engine, self.times = spec.engine, spec.times
        self.block = spec.engine.block_size
        self.timeline = Timeline(len(spec.times.latency_s))
        self.epoch = self.version = 0
        self.up = True
        self.back_s = 0.0
        self._clear()

    def _clear(self) -> None:
        engine = self.engine
        self.pool = KvPool(engine.blocks, engine.prefix_caching)
        self.waiting = Waiting(engine.policy == "priority")
        self.lanes = [Lane(self.block) for _ in range(self.times.stages)]
        self.flights: dict[Lane, Flight] = {}
        self.free_at = [0.0] * len(self.times.latency_s)
        self.arriving: dict[Job, None] = {}
        self.dropped: set[Job] = set()
        self.seats = self.load = 0

    # What the simulation does to a replica

    def submit(self, job: Job, now_s: float) -> None:
        """A job joins the queue."""
        self.waiting.add(job)
        if self.waiting.head() is job and self.seats < self.engine.max_num_seqs:
            self._stir(now_s)
        self._note(now_s)

    def arrive(self, job: Job, now_s: float) -> None:
        """The KV cache of a job that was fetched is here."""
        del self.arriving[job]
        job.state = "running"
        min(self.lanes, key=lambda lane: lane.size).joining.append(job)
        self._stir(now_s)

    def forget(self, job: Job, now_s: float) -> None:
        """A job that is in no lane leaves."""
        if job in self.arriving:
            del self.arriving[job]
            self._let_go(job)
            self._stir(now_s)
        else:
            self.waiting.withdraw(job)
            self.load -= 1
        job.state = ""

    def cancel(self, job: Job, now_s: float) -> None:
        """The job leaves, at the end of the step that it is in."""
        if job.state == "running":
            self.dropped.add(job)
            self._stir(now_s)
            job.state = "cancelled"
            return
        self.forget(job, now_s)
        job.state = "cancelled"
        self.world.ended(job, now_s)

    def release(self, grip: Grip, now_s: float) -> None:
        """Blocks that were kept for another replica are no longer needed."""
        if grip.epoch != self.epoch:
            return
        self._give_back(grip.own, grip.held)
        self.load -= 1
        self._stir(now_s)

    def fail(self, now_s: float) -> list[Job]:
        """Everything is lost; returns the jobs that were here."""
        jobs = self.waiting.drain() + list(self.arriving)
        for lane in self.lanes:
            jobs += [*lane.jobs, *lane.filling, *lane.joining]
        self.epoch += 1
        self.up = False
        self._clear()
        self._note(now_s)
        return jobs

    def restore(self, now_s: float) -> None:
        """The replica is back, empty."""
        self.up = True
        self._note(now_s)

    # Steps

    def step_done(self, lane: Lane, version: int, now_s: float) -> None:
        """The end of a step, unless it has been moved."""
        flight = self.flights.get(lane)
        if flight is None or flight.version != version:
            return
        del self.flights[lane]
        self._settle(lane, flight, now_s)
        self._schedule(lane, now_s)
        if len(self.lanes) > 1:
            self._start_idle(now_s)
        self._note(now_s)

    def _stir(self, now_s: float) -> None:
        """Something may be possible that was not before: start idle lanes, cut a jump short."""
        if not self.up:
            return
        self._start_idle(now_s)
        for lane, flight in self.flights.items():
            if flight.steps > 1 and flight.cut(now_s):
                self._expect(lane, flight, flight.end_s)

    def _start_idle(self, now_s: float) -> None:
        for lane in self.lanes:
            if lane not in self.flights and (self.waiting or lane.size):
                self._schedule(lane, now_s)

    def _expect(self, lane: Lane, flight: Flight, at_s: float) -> None:
        self.version += 1
        flight.version = self.version
        self.world.step_ends(at_s, self, lane, self.version)

    def _schedule(self, lane: Lane, now_s: float) -> None:
        """Decides the lane's next step and sends it on its way; nothing where there is nothing to compute."""
        self._balance(lane)
        preempted = self._make_room(lane)
        budget = self.engine.max_num_batched_tokens - len(lane.jobs)
        if lane.filling:
            budget, cut_short = self._continue(lane, budget)
            preempted = preempted or cut_short
        self.pool.take(lane.need())
        if self.waiting and not preempted:
            self._admit(lane, budget, now_s)
        if lane.jobs or lane.chunks:
            self._launch(lane, now_s, may_jump=not (preempted or lane.chunks or self.max_jump == 1))

    def _launch(self, lane: Lane, now_s: float, may_jump: bool) -> None:
        decodes = len(lane.jobs)
        chunks = tuple((length, job.computed) for job, length in lane.chunks)
        batch = Batch(decodes, lane.context, *lane.extremes(), chunks)
        times = self.times.seconds(batch)
        if len(self.lanes) > 1:
            flight = self._through(times, batch, now_s)
        else:
            flight = Flight(now_s, 1, times[0], 0.0, self.pool.used, 0)
            if may_jump:
                self._lengthen(flight, lane, batch)
        self.flights[lane] = flight
        self._expect(lane, flight, flight.end_s)

    def _through(self, times: tuple[float, ...], batch: Batch, now_s: float) -> Flight:
        """One step through all members of a pipeline, after the steps that went before."""
        at = now_s
        for i, (busy, latency) in enumerate(zip(times, self.times.latency_s, strict=True)):
            at = self.free_at[i] = max(at, self.free_at[i]) + busy
            at += latency
            self.timeline.busy_s[i] += busy
        return Flight(now_s, 1, at - now_s, 0.0, self.pool.used, 0)

    def _lengthen(self, flight: Flight, lane: Lane, batch: Batch) -> None:
        """Makes a decode step a run that ends where a sequence does, where blocks run out, or at the longest jump."""
        steps = min(lane.next_end() - lane.steps, self.max_jump)
        room = self.pool.free + lane.need()
        while steps > 1 and lane.blocks_for(steps) > room:
            steps -= max(1, (lane.blocks_for(steps) - room) * self.block // (2 * batch.decodes))
        if steps < 2:
            return
        more = steps - 1
        last = Batch(batch.decodes, batch.context + more * batch.decodes, batch.shortest + more, batch.longest + more)
        flight.steps = steps
        flight.slope_s = (self.times.seconds(last)[0] - flight.first_s) / more

    def _settle(self, lane: Lane, flight: Flight, now_s: float) -> None:
        """The step's results: tokens, first tokens, ends."""
        if flight.steps > 1:
            self.pool.take(lane.blocks_for(flight.steps) - lane.need())
        self.timeline.kv(flight.used, self.pool.used, now_s - flight.start_s)
        if len(self.lanes) == 1:
            self.timeline.busy_s[0] += now_s - flight.start_s
        lane.advance(flight.steps)
        chunks, lane.chunks = lane.chunks, []
        for job, length in chunks:
            job.computed += length
            if job.computed == job.tokens:
                self._prompt_done(lane, job, now_s)
        for job in lane.ended():
            lane.leave(job)
            self._end(job, now_s)
        if self.dropped:
            self._drop(lane, now_s)

    def _prompt_done(self, lane: Lane, job: Job, now_s: float) -> None:
        """The last token of the prompt, or of what had to be computed again, gives the next token."""
        lane.filling.remove(job)
        job.tokens += 1
        job.generated += 1
        if job.generated == 1:
            self.world.first_token(job, now_s)
        if job.generated >= job.limit:
            self._end(job, now_s)
        elif self.spec.role == "prefill" and job.state != "cancelled":
            self.seats -= 1
            self.world.hand_over(job, self._grip(job), now_s)
        else:
            lane.join(job)

    def _end(self, job: Job, now_s: float) -> None:
        self._let_go(job)
        self.dropped.discard(job)
        self.world.ended(job, now_s)

    def _drop(self, lane: Lane, now_s: float) -> None:
        """Takes the cancelled jobs out of a lane that is not in a step."""
        for job in [j for j in (*lane.jobs, *lane.filling, *lane.joining) if j in self.dropped]:
            self._take_out(lane, job)
            self._end(job, now_s)

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
        self._take_out(lane, job)
        grip = self._grip(job)
        full = job.computed // self.block - sum(entry.count for entry in grip.held)
        entry = self.pool.name(private_key(job), full) if full > 0 else None
        if entry is not None:
            self.pool.give(grip.own - full)
            self.pool.drop(entry)
            grip.own = 0
        self._give_back(grip.own, grip.held)
        self.seats -= 1
        job.computed = 0
        self.waiting.add_first(job)
        self.world.preempted(job)

    def _take_out(self, lane: Lane, job: Job) -> None:
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
        """Takes jobs from the queue while seats, budget and blocks last; never preempts."""
        share = self._share()
        while self.waiting and budget > 0 and self.seats < self.engine.max_num_seqs and lane.size < share:
            job = self.waiting.head()
            if job.state == "waiting" and job.computed:
                if not self._fetch(job, now_s):
                    return
                continue
            length = self._enter(lane, job, budget)
            if length == 0:
                return
            budget -= length
            self.world.admitted(job, now_s)

    def _enter(self, lane: Lane, job: Job, budget: int) -> int:
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

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block)

    def _blocks_of(self, job: Job) -> int:
        """Blocks that a job has while it is in no step."""
        return max(self._blocks(job.computed), sum(entry.count for entry in job.held))

    def _grip(self, job: Job) -> Grip:
        if job.request.blocks:
            name_computed(self.pool, job, job.computed, self.block)
        held, job.held, job.named = job.held, [], 0
        own = max(0, self._blocks(job.computed) - sum(entry.count for entry in held))
        return Grip(self, own, held)

    def _let_go(self, job: Job) -> None:
        grip = self._grip(job)
        self._give_back(grip.own, grip.held)
        self.seats -= 1
        self.load -= 1

    def _give_back(self, own: int, held: list[Entry]) -> None:
        self.pool.give(own)
        for entry in reversed(held):
            self.pool.drop(entry)

    def _note(self, now_s: float) -> None:
        self.timeline.note(now_s, len(self.waiting), self.seats, self.pool.used)
