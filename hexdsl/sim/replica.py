"""One replica: its scheduler, the steps that are under way, and what they take.

With several stages, a step passes the members of the pipeline in order, each member one step at a time.
"""

from __future__ import annotations

from typing import Protocol

from hexdsl.sim.flight import Ahead, Flight, Loop
from hexdsl.sim.job import Job, Lane
from hexdsl.sim.scheduler import Grip, Scheduler, Told
from hexdsl.sim.spec import ReplicaSpec
from hexdsl.sim.steps import Batch
from hexdsl.sim.timeline import Timeline

WORTH = 3
"""Steps that a lane must have before it, for computing ahead to be worth the trouble."""


class World(Told, Protocol):
    """What a replica tells the simulation."""

    def starts(self, now_s: float, replica: Replica) -> None: ...

    def step_ends(self, at_s: float, replica: Replica, lane: Lane | None, version: int) -> None: ...

    def first_token(self, job: Job, now_s: float) -> None: ...

    def ended(self, job: Job, now_s: float) -> None: ...

    def hand_over(self, job: Job, keep: Keep, now_s: float) -> None: ...


class Keep:
    """Blocks that a replica keeps for a job that goes on elsewhere."""

    __slots__ = ("epoch", "grip", "replica")

    def __init__(self, replica: Replica, grip: Grip) -> None:
        self.replica, self.grip, self.epoch = replica, grip, replica.epoch


class Replica:
    """The state of a replica.  `epoch` counts its lives: what was promised in an earlier one is void."""

    def __init__(self, spec: ReplicaSpec, index: int, world: World, max_jump: int) -> None:
        self.spec, self.index, self.world, self.max_jump = spec, index, world, max_jump
        self.times = spec.times
        self.timeline = Timeline(len(spec.times.latency_s))
        self.epoch = self._version = 0
        self.up, self.back_s = True, 0.0
        self._starting = False
        self._clear()

    def _clear(self) -> None:
        self.work = Scheduler(self.spec.engine, self.times.stages, self.world)
        self._flights: dict[Lane, Flight] = {}
        self._ahead: Ahead | None = None
        self._free_at = [0.0] * len(self.times.latency_s)
        self._dropped: set[Job] = set()

    # What the simulation does to a replica

    def submit(self, job: Job, now_s: float) -> None:
        """A job joins the queue."""
        work = self.work
        work.waiting.add(job)
        if work.seats < work.engine.max_num_seqs and work.waiting.head() is job:
            self._stir(now_s)
        self._note(now_s)

    def arrive(self, job: Job, now_s: float) -> None:
        """The KV cache of a job that was fetched is here."""
        del self.work.arriving[job]
        job.state = "running"
        min(self.work.lanes, key=lambda lane: lane.size).joining.append(job)
        self._stir(now_s)

    def forget(self, job: Job, now_s: float) -> None:
        """A job that is in no lane leaves."""
        if job in self.work.arriving:
            del self.work.arriving[job]
            self.work.let_go(job)
            self._stir(now_s)
        else:
            self.work.waiting.withdraw(job)
            self.work.load -= 1
        job.state = ""

    def cancel(self, job: Job, now_s: float) -> None:
        """The job leaves, at the end of the step that it is in."""
        if job.state == "running":
            job.state = "cancelled"
            self._dropped.add(job)
            self._stir(now_s)
            return
        self.forget(job, now_s)
        job.state = "cancelled"
        self.world.ended(job, now_s)

    def release(self, keep: Keep, now_s: float) -> None:
        """Blocks that were kept for another replica are no longer needed."""
        if keep.epoch == self.epoch:
            self.work.give_back(keep.grip)
            self.work.load -= 1
            self._stir(now_s)

    def fail(self, now_s: float) -> list[Job]:
        """Everything is lost; returns the jobs that were here."""
        jobs = self.work.jobs()
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

    def step_done(self, lane: Lane | None, version: int, now_s: float) -> None:
        """The end of a step or, without a lane, of all that was computed ahead; unless it has been moved."""
        if lane is None:
            if self._ahead is not None and version == self._version:
                self._catch_up(now_s)
            return
        flight = self._flights.get(lane)
        if flight is None or flight.version != version:
            return
        del self._flights[lane]
        self._settle(lane, flight, now_s)
        preempted = self._schedule(lane, now_s)
        if len(self.work.lanes) > 1:
            self._start_idle(now_s)
            if not preempted and self.max_jump > 1:
                self._run_ahead()
        self._note(now_s)

    def _stir(self, now_s: float) -> None:
        """Something may be possible that was not before: start idle lanes, cut runs short."""
        if not self.up:
            return
        if self._ahead is not None:
            self._catch_up(now_s)
        if len(self._flights) < len(self.work.lanes) and not self._starting:
            self._starting = True
            self.world.starts(now_s, self)
        if len(self.work.lanes) == 1:
            for lane, flight in self._flights.items():
                if flight.steps > 1 and flight.cut(now_s):
                    self._expect(lane, flight)

    def start(self, now_s: float) -> None:
        """Idle lanes look for work, once all that happens at this time is known."""
        self._starting = False
        if self.up:
            self._start_idle(now_s)
            self._note(now_s)

    def _start_idle(self, now_s: float) -> None:
        for lane in self.work.lanes:
            if lane not in self._flights and (self.work.waiting or lane.size):
                self._schedule(lane, now_s)

    def _expect(self, lane: Lane, flight: Flight) -> None:
        self._version += 1
        flight.version = self._version
        self.world.step_ends(flight.end_s, self, lane, self._version)

    def _schedule(self, lane: Lane, now_s: float) -> bool:
        """Decides the lane's next step and sends it on its way, if there is one; whether it preempted."""
        preempted = self.work.plan(lane, now_s)
        if not lane.jobs and not lane.chunks:
            return preempted
        chunks = tuple((length, job.computed) for job, length in lane.chunks)
        batch = Batch(len(lane.jobs), lane.context, *lane.extremes(), chunks)
        times = self.times.seconds(batch)
        if len(self.work.lanes) > 1:
            flight = self._through(times, now_s)
        else:
            flight = Flight(now_s, 1, times[0])
            if not (preempted or chunks or self.max_jump == 1):
                self._lengthen(flight, lane, batch)
        self._flights[lane] = flight
        self._expect(lane, flight)
        return preempted

    def _through(self, times: tuple[float, ...], now_s: float) -> Flight:
        """One step through all members of a pipeline, after the steps that went before."""
        at = now_s
        for i, (busy, latency) in enumerate(zip(times, self.times.latency_s, strict=True)):
            at = self._free_at[i] = max(at, self._free_at[i]) + busy
            at += latency
        return Flight(now_s, 1, at - now_s, busy_s=times)

    def _lengthen(self, flight: Flight, lane: Lane, batch: Batch) -> None:
        """Makes a decode step a run that ends where a sequence does, where blocks run out, or at the longest jump."""
        steps = min(lane.next_end() - lane.steps, self.max_jump)
        room = self.work.pool.free + lane.need()
        while steps > 1 and (excess := lane.blocks_for(steps) - room) > 0:
            steps -= max(1, excess * lane.block // (2 * batch.decodes))
        if steps > 1:
            flight.steps = steps
            flight.slope_s = (self.times.seconds(batch.later(steps - 1))[0] - flight.first_s) / (steps - 1)

    def _settle(self, lane: Lane, flight: Flight, now_s: float) -> None:
        """The step's results: tokens, first tokens, ends."""
        pool = self.work.pool
        if flight.steps > 1:
            pool.take(lane.blocks_for(flight.steps) - lane.need())
        self.timeline.grow(now_s, pool.used)
        self.timeline.work(flight.busy_s or (now_s - flight.start_s,))
        lane.advance(flight.steps)
        chunks, lane.chunks = lane.chunks, []
        for job, length in chunks:
            job.computed += length
            if job.computed == job.tokens:
                self._prompt_done(lane, job, now_s)
        for job in lane.ended():
            lane.leave(job)
            self._end(job, now_s)
        if self._dropped:
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
            self.work.seats -= 1
            self.world.hand_over(job, Keep(self, self.work.grip(job)), now_s)
        else:
            lane.join(job)

    def _end(self, job: Job, now_s: float) -> None:
        self.work.let_go(job)
        self._dropped.discard(job)
        self.world.ended(job, now_s)

    def _drop(self, lane: Lane, now_s: float) -> None:
        """Takes the cancelled jobs out of a lane that is in no step."""
        for job in [j for j in (*lane.jobs, *lane.filling, *lane.joining) if j in self._dropped]:
            self.work.take_out(lane, job)
            self._end(job, now_s)

    def _note(self, now_s: float) -> None:
        work = self.work
        self.timeline.note(now_s, len(work.waiting), work.seats, work.pool.used)

    # Pipelines, computed ahead

    def _run_ahead(self) -> None:
        """Computes the decode steps of all lanes until one of them has something else to do."""
        work = self.work
        if (work.waiting and not work.stuck) or self._dropped or not work.even():
            return
        if any(lane.chunks or lane.joining or lane.filling for lane in work.lanes):
            return
        left = {lane: min(lane.next_end() - lane.steps - 1, self.max_jump) for lane in self._flights}
        if not left or min(left.values()) < WORTH:
            return
        loops = [self._loop(lane, steps) for lane, steps in left.items()]
        ahead = Ahead(loops, self.times.latency_s, self._free_at, work.pool.free)
        self._ahead = ahead
        self._version += 1
        self.world.step_ends(ahead.end_s, self, None, self._version)

    def _loop(self, lane: Lane, steps: int) -> Loop:
        batch = Batch(len(lane.jobs), lane.context, *lane.extremes())
        first, last = (self.times.seconds(batch.later(j)) for j in (1, steps))
        slope = tuple((b - a) / (steps - 1) for a, b in zip(first, last, strict=True))
        flight = self._flights[lane]
        flight.version = -1
        return Loop(lane, flight.end_s, steps, first, slope)

    def _catch_up(self, now_s: float) -> None:
        """Makes what was computed ahead true, as far as the clock has come."""
        ahead, self._ahead = self._ahead, None
        assert ahead is not None
        self.work.pool.take(ahead.settle(now_s))
        self.timeline.grow(now_s, self.work.pool.used)
        self._free_at = ahead.free_at
        for loop in ahead.loops:
            flight = self._flights[loop.lane]
            if loop.done:
                loop.lane.advance(loop.done)
                self.timeline.work(flight.busy_s)
                self.timeline.work(loop.busy_s(loop.done - 1))
                flight = self._flights[loop.lane] = Flight(now_s, 1, loop.end_s - now_s, busy_s=loop.last_s())
            self._expect(loop.lane, flight)
