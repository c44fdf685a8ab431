"""The scheduler without a model: blocks are conserved, budgets kept, everybody finishes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from hexdsl.runtime.config import KvConfig, Limits
from hexdsl.runtime.scheduler import Sampling, Scheduler, Sequence, Work
from hexdsl.runtime.step import Chunk


def sequence(number: int, prompt: int, answer: int) -> Sequence:
    return Sequence(number, tuple(range(prompt)), Sampling(answer))


def scheduler(blocks: int, *, batch: int = 4, budget: int = 8, stages: int = 1) -> Scheduler:
    limits = Limits(max_batch=batch, prefill_chunk_tokens=budget)
    return Scheduler(limits, KvConfig(block_tokens=4, blocks=blocks), stages)


@dataclass
class Pipeline:
    """Plays the engine: up to `stages` steps under way, the oldest comes back first."""

    scheduler: Scheduler
    flying: deque[Work] = field(default_factory=deque)
    finished: list[int] = field(default_factory=list)
    memory: dict[int, tuple[int, int]] = field(default_factory=dict)
    """What lies in each slot of the pool: sequence and position."""

    def turn(self) -> None:
        while len(self.flying) < self.scheduler.stages and (work := self.scheduler.plan()):
            self.check(work)
            self.flying.append(work)
        if self.flying:
            for drawn in self.scheduler.settle(self.flying.popleft()):
                if not drawn.ended:
                    self.append(drawn)

    def append(self, drawn: Sequence) -> None:
        drawn.tokens.append(0)
        if drawn.produced == drawn.sampling.max_tokens:
            self.finished.append(drawn.id)
            self.scheduler.end(drawn)

    def check(self, work: Work) -> None:
        assert sum(len(chunk.tokens) for _, chunk in work) <= self.scheduler.limits.prefill_chunk_tokens
        held = [block for s in self.scheduler.running for block in s.blocks]
        assert len(held) == len(set(held)) == self.scheduler.pool.used
        busy = [s.id for step in (*self.flying, work) for s, _ in step]
        assert len(busy) == len(set(busy))
        for owner, chunk in work:
            self.compute(owner.id, chunk)

    def compute(self, owner: int, chunk: Chunk) -> None:
        """Writes the chunk's keys and values; all before them must still be there."""
        slots = [4 * chunk.blocks[p // 4] + p % 4 for p in range(chunk.positions.stop)]
        self.memory.update({slots[p]: (owner, p) for p in chunk.positions})
        assert [self.memory.get(slot) for slot in slots] == [(owner, p) for p in range(chunk.positions.stop)]


def test_decodes_come_before_prompts_and_prompts_in_chunks() -> None:
    pipeline = Pipeline(scheduler(blocks=20))
    first, second = sequence(0, 3, 5), sequence(1, 12, 5)
    pipeline.scheduler.add(first)
    pipeline.turn()
    pipeline.scheduler.add(second)
    work = pipeline.scheduler.plan()
    assert [(s.id, len(chunk.tokens), chunk.draw is None) for s, chunk in work] == [(0, 1, False), (1, 7, True)]


def test_the_newest_gives_way_when_blocks_run_out() -> None:
    pipeline = Pipeline(scheduler(blocks=4, budget=32))
    for number in range(2):
        pipeline.scheduler.add(sequence(number, 7, 9))
    for _ in range(100):
        pipeline.turn()
    assert pipeline.finished == [0, 1]
    assert pipeline.scheduler.preemptions == 1
    assert pipeline.scheduler.pool.used == 0


def test_a_cancelled_sequence_keeps_its_blocks_until_its_step_is_back() -> None:
    pipeline = Pipeline(scheduler(blocks=4))
    gone = sequence(0, 3, 5)
    pipeline.scheduler.add(gone)
    work = pipeline.scheduler.plan()
    pipeline.scheduler.end(gone)
    assert pipeline.scheduler.pool.used == 1
    pipeline.scheduler.settle(work)
    assert pipeline.scheduler.pool.used == 0
    assert not pipeline.scheduler.running


def test_steps_share_the_sequences_so_that_all_stages_have_work() -> None:
    engine = scheduler(blocks=20, budget=32, stages=2)
    for number in range(4):
        engine.add(sequence(number, 2, 5))
    assert [len(engine.plan()) for _ in range(3)] == [2, 2, 0]


@given(
    requests=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12), st.integers(0, 30)), max_size=8),
    cancelled=st.sets(st.integers(0, 7)),
    blocks=st.integers(8, 20),
    stages=st.integers(1, 3),
    batch=st.integers(1, 5),
)
def test_everybody_finishes_and_no_block_is_lost(
    requests: list[tuple[int, int, int]], cancelled: set[int], blocks: int, stages: int, batch: int
) -> None:
    pipeline = Pipeline(scheduler(blocks, batch=batch, stages=stages))
    known = [sequence(number, prompt, answer) for number, (prompt, answer, _) in enumerate(requests)]
    for turn in range(1000):
        for number, (_, _, arrival) in enumerate(requests):
            if arrival == turn:
                pipeline.scheduler.add(known[number])
            if arrival + 5 == turn and number in cancelled and number not in pipeline.finished:
                pipeline.scheduler.end(known[number])
        pipeline.turn()
    assert {*pipeline.finished} | cancelled >= {*range(len(requests))}
    assert pipeline.scheduler.pool.used == 0
    assert not pipeline.scheduler.waiting
    assert not pipeline.scheduler.running
