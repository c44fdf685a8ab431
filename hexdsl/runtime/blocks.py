"""The free list of KV blocks.  Rank 0 alone decides; block `i` is block `i` in every layer's pool of every rank."""

from __future__ import annotations

from collections.abc import Iterable


class BlockPool:
    """Hands out block numbers, the most recently returned first."""

    def __init__(self, blocks: int) -> None:
        self.total = blocks
        self._free = list(reversed(range(blocks)))

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.total - self.free

    def take(self, count: int) -> list[int]:
        """Raises ValueError where fewer than `count` are free: callers look first."""
        if count > self.free:
            raise ValueError(f"{count} blocks wanted, {self.free} free")
        return [self._free.pop() for _ in range(count)]

    def give_back(self, blocks: Iterable[int]) -> None:
        self._free.extend(blocks)
