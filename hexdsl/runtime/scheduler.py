"""Iteration-level scheduling (Yu et al., "Orca", 2022) over paged blocks: what the next step computes.

Decodes come first, then prompts in chunks within the step's token budget (Agrawal et al., "Sarathi-Serve", 2024), then
admissions while blocks suffice for the whole prompt.  When blocks run out, the newest running sequence gives its blocks
back and is computed again later.  With several stages, a step takes an even share of the sequences, so that as many
steps as stages can be under way; a sequence is in one of them at a time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hexdsl.runtime.blocks import BlockPool
from hexdsl.runtime.config import KvConfig, Limits
from hexdsl.runtime.step import Chunk, Draw


@dataclass(frozen=True, slots=True)
class Sampling:
    """A request's way of choosing tokens; temperature 0 is greedy."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(slots=True, eq=False)
class Sequence:
    """A request as the scheduler sees it.  `tokens` is prompt and answer, `computed` how many have keys and values.

    `parked` keeps it out of the steps while its KV travels: to another replica (`leaving`, which leaves its seat to
    others), or to this one.
    """

    id: int
    prompt: tuple[int, ...]
    sampling: Sampling
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    in_flight: bool = False
    parked: bool = False
    leaving: bool = False
    ended: bool = False

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def produced(self) -> int:
        return len(self.tokens) - len(self.prompt)

    def chunk(self, length: int) -> Chunk:
        """The next `length` tokens to compute; with a draw if they are the last ones known."""
        part = self.tokens[self.computed : self.computed + length]
        how = self.sampling
        draw = Draw(how.temperature, how.top_p, how.seed, self.produced) if length == self.pending else None
        return Chunk(tuple(part), self.computed, tuple(self.blocks), draw)


Work = list[tuple[Sequence, Chunk]]


class Scheduler:
    """Owns the queue, the running sequences and the block pool of one replica."""

    def __init__(self, limits: Limits, kv: KvConfig, stages: int) -> None:
        self.limits, self.kv, self.stages = limits, kv, stages
        self.pool = BlockPool(kv.blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0

    @property
    def seated(self) -> int:
        """Sequences that hold a seat of the batch."""
        return len(self.running) - self.leavings()

    def prefills(self) -> int:
        return len(self.waiting) - self.decodes()

    def decodes(self) -> int:
        """Sequences in the queue whose KV comes from elsewhere."""
        return sum(s.parked for s in tuple(self.waiting))

    def leavings(self) -> int:
        return sum(s.leaving for s in tuple(self.running))

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def plan(self) -> Work:
        """The next step's chunks; empty where nothing can be computed now."""
        work: Work = []
        before = self.preemptions
        share = self._share()
        budget = self.limits.prefill_chunk_tokens
        for sequence in sorted(self.running, key=lambda s: (s.pending > 1, s.id)):
            if len(work) == share or budget == 0:
                break
            if not sequence.in_flight and not sequence.parked and sequence in self.running:
                budget -= self._put(work, sequence, budget)
        while len(work) < share and budget > 0 and self.preemptions == before and (new := self._admit()):
            if not new.parked:
                budget -= self._put(work, new, budget)
        return work

    def settle(self, work: Work) -> list[Sequence]:
        """A step has been computed.  Returns the sequences whose next token is now known, in the order of the draws."""
        drawn = []
        for sequence, chunk in work:
            sequence.in_flight = False
            sequence.computed += len(chunk.tokens)
            if chunk.draw:
                drawn.append(sequence)
            if sequence.ended:
                self._leave(sequence)
        return drawn

    def end(self, sequence: Sequence) -> None:
        """The sequence is finished or cancelled; its blocks come back as soon as no step uses them."""
        sequence.ended = True
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        elif not sequence.in_flight:
            self._leave(sequence)

    def _share(self) -> int:
        """Sequences a step: an even part of all that could run, so that every stage has work."""
        could = min(self.limits.max_batch, len(self.running) + len(self.waiting))
        return max(1, -(-could // self.stages))

    def _put(self, work: Work, sequence: Sequence, budget: int) -> int:
        """Adds a chunk within the budget if its blocks can be had; returns the tokens used."""
        length = min(sequence.pending, budget)
        if not self._grow(sequence, sequence.computed + length):
            return 0
        sequence.in_flight = True
        work.append((sequence, sequence.chunk(length)))
        return length

    def _admit(self) -> Sequence | None:
        """Moves the head of the queue to the running ones if a seat and blocks for all its tokens are free."""
        if not self.waiting or self.seated >= self.limits.max_batch:
            return None
        head = self.waiting[0]
        need = self.kv.blocks_for(len(head.tokens))
        if need > self.pool.free:
            return None
        head.blocks = self.pool.take(need)
        self.running.append(self.waiting.popleft())
        return head

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for the first `tokens` tokens, taken from newer sequences if need be, but not from parked ones."""
        need = self.kv.blocks_for(tokens) - len(sequence.blocks)
        while need > self.pool.free:
            newest = max((s for s in self.running if not s.parked), key=lambda s: s.id)
            if newest.in_flight:
                return False
            self._preempt(newest)
            if newest is sequence:
                return False
        sequence.blocks += self.pool.take(max(0, need))
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._leave(sequence)
        sequence.computed = 0
        self.waiting.appendleft(sequence)
        self.preemptions += 1

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.pool.give_back(sequence.blocks)
        sequence.blocks = []
