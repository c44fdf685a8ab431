"""Tiles by architecture and size, as data: nothing is measured while a model runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    """One configuration: `rows` activations (or queries, or heads) by `columns` outputs (or keys), warps and stages."""

    rows: int
    columns: int
    warps: int
    stages: int


@dataclass(frozen=True, slots=True)
class Step:
    """The tile of all sizes up to `most`."""

    most: int
    tile: Tile


ALL = 1 << 62
MULTIPROCESSORS: Mapping[int, int] = {80: 108, 90: 132, 100: 148}
"""Of A100, H100 and B200: how many thread blocks a product is split into, at least, where it can be."""

_DECODE = (Step(16, Tile(16, 64, 4, 4)), Step(32, Tile(32, 64, 4, 4)), Step(64, Tile(64, 64, 4, 3)))
LINEAR: Mapping[int, tuple[Step, ...]] = {
    80: (*_DECODE, Step(ALL, Tile(128, 128, 8, 3))),
    90: (*_DECODE, Step(ALL, Tile(128, 128, 8, 3))),
    # Triton 3.7 lowers a 128 x 128 product with a left operand from registers to a trap on sm_100.
    100: (*_DECODE, Step(ALL, Tile(64, 128, 4, 3))),
}
"""Weight-only products, by the number of activations."""

LATE: Mapping[int, tuple[Step, ...]] = {arch: (*_DECODE, Step(ALL, Tile(64, 128, 8, 3))) for arch in LINEAR}
"""The same for mxfp4 with float16: its scales meet partial sums, which need registers of their own."""


def tile_for(table: Mapping[int, tuple[Step, ...]], arch: int, size: int) -> Tile:
    """The tile of the newest architecture not newer than `arch`, for a size.  Raises ValueError below sm_80."""
    known = [a for a in table if a <= arch]
    if not known:
        raise ValueError(f"device: sm_{arch} is not supported; the kernels need sm_80 or newer")
    return next(step.tile for step in table[max(known)] if size <= step.most)


def splits_for(blocks: int, pieces: int, arch: int, least: int = 4) -> int:
    """Into how many parts to cut a sum of `pieces` so that `blocks` thread blocks fill the chip twice.

    At most 32, and no part below `least` pieces.
    """
    units = MULTIPROCESSORS[max(a for a in MULTIPROCESSORS if a <= max(arch, 80))]
    return max(1, min(32, 2 * units // max(blocks, 1), pieces // least))


EIGHT_BIT: Mapping[int, tuple[Step, ...]] = {
    arch: (Step(16, Tile(16, 64, 4, 4)), Step(64, Tile(64, 64, 4, 4)), Step(ALL, Tile(128, 128, 8, 3)))
    for arch in (80, 90, 100)
}
"""Products of int8 activations and weights, by the number of activations."""

FP8_TILES: Mapping[int, tuple[Step, ...]] = {
    arch: (Step(16, Tile(16, 64, 4, 4)), Step(64, Tile(64, 64, 4, 4)), Step(ALL, Tile(64, 128, 8, 4)))
    for arch in (89, 90, 100)
}
"""The same for fp8, whose float32 sums exist twice (see `dot8`)."""

DECODE: Mapping[int, tuple[Step, ...]] = {
    80: (Step(8, Tile(8, 64, 4, 3)), Step(ALL, Tile(16, 64, 4, 3))),
    90: (Step(8, Tile(8, 128, 4, 3)), Step(ALL, Tile(16, 64, 4, 3))),
    100: (Step(8, Tile(8, 128, 4, 3)), Step(ALL, Tile(16, 64, 4, 2))),
}
"""Decode attention, by the query heads of a key head; columns are keys."""

PREFILL: Mapping[int, tuple[Step, ...]] = {
    80: (Step(16, Tile(16, 32, 4, 3)), Step(64, Tile(32, 32, 4, 3)), Step(ALL, Tile(128, 32, 8, 3))),
    90: (Step(16, Tile(16, 32, 4, 3)), Step(64, Tile(64, 64, 4, 2)), Step(ALL, Tile(128, 64, 8, 3))),
    100: (Step(16, Tile(16, 32, 4, 3)), Step(64, Tile(64, 64, 4, 2)), Step(ALL, Tile(128, 64, 8, 3))),
}
"""Attention of packed queries, by the rows (queries times heads of a group) of the longest sequence."""
