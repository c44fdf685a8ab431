"""Which of a request's tokens a KV pool still holds, and naming what it computes so that others find it."""

from __future__ import annotations

from typing import NamedTuple

from hexdsl.sim.job import Job
from hexdsl.sim.kv import Entry, KvPool
from hexdsl.sim.request import Request


class Hit(NamedTuple):
    """Readable entries at the start of a sequence: those of `whole` can be shared, those of `rest` taken over."""

    whole: tuple[Entry, ...]
    rest: tuple[Entry, ...]

    @property
    def blocks(self) -> int:
        return sum(entry.count for entry in self.whole + self.rest)

    @property
    def queued(self) -> int:
        """Of these, blocks that count as free until they are claimed."""
        return sum(entry.count for entry in self.whole + self.rest if entry.refs == 0)


MISS = Hit((), ())


def named_tokens(request: Request) -> int:
    """Tokens that the ids of a request name; the last id may name a part of a piece, up to the end of the prompt."""
    full = len(request.blocks) * request.block_tokens
    return request.prompt if full - request.block_tokens < request.prompt < full else full


def piece_blocks(request: Request, index: int, block: int) -> int:
    """Whole blocks of the pool in a piece."""
    start = index * request.block_tokens
    return min(start + request.block_tokens, named_tokens(request)) // block - start // block


def private_key(job: Job, start: int) -> tuple[str, int, int]:
    """The key under which a preempted job finds its own blocks again, which begin at block `start` of the sequence."""
    return ("job", job.row, start)


def look_up(pool: KvPool, job: Job, block: int) -> Hit:
    """What the pool holds of a waiting job, from its first token without a gap."""
    if not pool.caching:
        return MISS
    whole: list[Entry] = []
    for index, key in enumerate(job.request.blocks):
        entry = pool.find(key)
        size = piece_blocks(job.request, index, block)
        if entry is None or entry.count > size:
            return Hit(tuple(whole), ())
        if entry.count < size:
            return Hit(tuple(whole), (entry,) if entry.refs == 0 else ())
        whole.append(entry)
    start = sum(entry.count for entry in whole)
    own = pool.find(private_key(job, start)) if job.ticket > 1 else None
    if own is None or start + own.count > (job.tokens - 1) // block:
        return Hit(tuple(whole), ())
    return Hit(tuple(whole), (own,))


def held_tokens(pool: KvPool, request: Request, block: int) -> int:
    """Prompt tokens that the pool holds, for a router."""
    if not pool.caching:
        return 0
    blocks = 0
    for key in request.blocks:
        entry = pool.find(key)
        if entry is None:
            break
        blocks += entry.count
    return min(blocks * block, request.prompt)


def name_computed(pool: KvPool, job: Job, computed: int, block: int) -> None:
    """Makes the pieces readable that lie within the first `computed` tokens."""
    request = job.request
    end = named_tokens(request)
    while job.named < len(request.blocks):
        if min((job.named + 1) * request.block_tokens, end) > computed:
            return
        entry = pool.name(request.blocks[job.named], piece_blocks(request, job.named, block))
        if entry is not None:
            job.held.append(entry)
        job.named += 1
