"""A replica's KV cache: a pool of equal blocks, of which freed ones stay readable until they are needed again.

As in vLLM, freed blocks queue up and the longest unused are taken first, a sequence's last blocks before its first.
Blocks are counted in runs, not one by one: all blocks of a run belong to the same piece of a sequence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable


class Entry:
    """A run of `count` readable blocks of one piece of a sequence, used by `refs` running sequences."""

    __slots__ = ("count", "key", "refs")

    def __init__(self, key: Hashable, count: int, refs: int) -> None:
        self.key, self.count, self.refs = key, count, refs


class _Run:
    """Free blocks in the queue: those of an entry that nobody uses, or nameless ones."""

    __slots__ = ("count", "entry")

    def __init__(self, count: int, entry: Entry | None = None) -> None:
        self.count, self.entry = count, entry


class KvPool:
    """`free` blocks can be taken: those never used, and those that are readable but in no running sequence."""

    def __init__(self, blocks: int, caching: bool = True) -> None:
        self.blocks = self.free = blocks
        self.caching = caching
        self._entries: dict[Hashable, Entry] = {}
        self._queue = deque([_Run(blocks)])
        self._parked: dict[Hashable, _Run] = {}

    @property
    def used(self) -> int:
        return self.blocks - self.free

    def take(self, count: int) -> None:
        """Takes blocks, the longest unused first; what was readable in them is lost.  There must be enough."""
        assert 0 <= count <= self.free
        self.free -= count
        while count:
            run = self._queue[0]
            part = min(count, run.count)
            run.count -= part
            count -= part
            if run.entry is not None:
                run.entry.count -= part
            if run.count == 0:
                self._queue.popleft()
                self._forget(run)

    def give(self, count: int) -> None:
        """Takes back blocks that hold nothing worth keeping."""
        if count == 0:
            return
        self.free += count
        last = self._queue[-1] if self._queue else None
        if last is not None and last.entry is None:
            last.count += count
        else:
            self._queue.append(_Run(count))

    def find(self, key: Hashable) -> Entry | None:
        """The readable blocks under this key."""
        return self._entries.get(key)

    def name(self, key: Hashable, count: int) -> Entry | None:
        """Makes taken blocks readable under a key; None where the key is in use already."""
        if key in self._entries or count == 0 or not self.caching:
            return None
        entry = self._entries[key] = Entry(key, count, 1)
        return entry

    def claim(self, entry: Entry) -> None:
        """One more sequence uses the entry, whose blocks leave the queue if they are in it."""
        if entry.refs == 0:
            self._unpark(entry)
        entry.refs += 1

    def drop(self, entry: Entry) -> None:
        """One sequence fewer uses the entry; its blocks join the queue after the last one."""
        entry.refs -= 1
        if entry.refs == 0:
            self.free += entry.count
            run = self._parked[entry.key] = _Run(entry.count, entry)
            self._queue.append(run)

    def absorb(self, entry: Entry) -> int:
        """Takes an unused entry's blocks as nameless ones; returns how many."""
        assert entry.refs == 0
        self._unpark(entry)
        del self._entries[entry.key]
        return entry.count

    def readable(self) -> int:
        """Blocks that can be found by a key."""
        return sum(entry.count for entry in self._entries.values())

    def check(self) -> None:
        """Raises AssertionError unless the counts agree: for tests."""
        queued = sum(run.count for run in self._queue)
        assert queued == self.free, f"{queued} blocks in the queue, {self.free} counted"
        idle = sum(entry.count for entry in self._entries.values() if entry.refs == 0)
        assert idle == sum(run.count for run in self._parked.values())
        assert 0 <= self.free <= self.blocks

    def _unpark(self, entry: Entry) -> None:
        run = self._parked.pop(entry.key)
        self.free -= run.count
        run.count, run.entry = 0, None

    def _forget(self, run: _Run) -> None:
        if run.entry is not None:
            del self._parked[run.entry.key]
            del self._entries[run.entry.key]
