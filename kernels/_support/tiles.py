"""Tiles by kernel and architecture, as data: nothing is measured while a model runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    """One configuration: rows (queries times heads of a group) by columns (keys), warps and pipeline stages.

    It is for the architecture `arch` and newer, head dimensions up to `head_dim`, elements up to `width` bytes.
    """

    arch: int
    head_dim: int
    width: int
    rows: int
    columns: int
    warps: int
    stages: int


Table = Mapping[str, Sequence[Tile]]
_FORCED: ContextVar[Mapping[str, Tile] | None] = ContextVar("forced", default=None)


def tile_for(table: Table, kernel: str, arch: int, head_dim: int, width: int) -> Tile:
    """The closest tile that covers the case: newest architecture first, then the smallest sizes that are enough.

    Raises ValueError for an architecture, head dimension or element size that the table does not cover.
    """
    forced = (_FORCED.get() or {}).get(kernel)
    if forced is not None:
        return forced
    fit = [t for t in table[kernel] if t.arch <= arch and t.head_dim >= head_dim and t.width >= width]
    if not fit:
        raise ValueError(f"{kernel}: no tile for sm_{arch}, head_dim {head_dim} and elements of {width} bytes")
    return min(fit, key=lambda t: (-t.arch, t.head_dim, t.width))


@contextlib.contextmanager
def forced(tiles: Mapping[str, Tile]) -> Iterator[None]:
    """Inside, the kernels that `tiles` names use its tiles: for tests and for measuring candidates."""
    token = _FORCED.set(tiles)
    try:
        yield
    finally:
        _FORCED.reset(token)


MULTIPROCESSORS: Mapping[int, int] = {80: 108, 90: 132, 100: 148}
"""Of A100, H100 and B200: how many thread blocks a sum is split into, at least, where it can be."""


def splits_for(blocks: int, pieces: int, arch: int, least: int = 4) -> int:
    """Into how many parts to cut a sum of `pieces` so that `blocks` thread blocks fill the chip twice.

    At most 32, and no part below `least` pieces.
    """
    units = MULTIPROCESSORS[max(a for a in MULTIPROCESSORS if a <= max(arch, 80))]
    return max(1, min(32, 2 * units // max(blocks, 1), pieces // least))
