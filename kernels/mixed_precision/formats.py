"""The number formats of quantised weights, and the records that hold a quantised matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

PLANE = 32
"""Inputs in one plane of a tile: two k-steps of a 16-bit tensor-core instruction."""

ROWS = 64
"""Outputs in one tile."""


@dataclass(frozen=True, slots=True)
class Format:
    """A weight format.  A 16-bit word holds `planes` codes, so a tile spans `tile` inputs."""

    name: str
    bits: int
    integer: bool

    @property
    def planes(self) -> int:
        return 16 // self.bits

    @property
    def tile(self) -> int:
        return PLANE * self.planes

    @property
    def middle(self) -> int:
        """The zero point of integer codes that come without zero points."""
        return 1 << (self.bits - 1) if self.integer else 0


INT4 = Format("int4", 4, integer=True)
INT8 = Format("int8", 8, integer=True)
FP8 = Format("fp8", 8, integer=False)
"""e4m3 without infinities (Micikevicius et al., "FP8 Formats for Deep Learning", 2022, table 1)."""
MXFP4 = Format("mxfp4", 4, integer=False)
"""e2m1 with one e8m0 scale for 32 inputs (OCP Microscaling Formats Specification 1.0, sections 5.3.3 and 5.4.1)."""

FORMATS: Mapping[str, Format] = {f.name: f for f in (INT4, INT8, FP8, MXFP4)}

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised matrix [N, K] in plain form: what quantisers and importers give, and `pack` takes.

    `codes` [N, K] uint8.  `scales` [N, G], floating point, or uint8 e8m0 exponents for mxfp4.  `zeros` [N, G] uint8,
    or None for the middle code (integer formats only).  `order` [K] int64, or None: column j of `codes` belongs to
    input `order[j]`.  A group is K / G neighbouring columns, the last one may be shorter.
    """

    format: Format
    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    group: int
    order: Tensor | None = None

    def __post_init__(self) -> None:
        n, k = _matrix(self.codes)
        groups = -(-k // self.group)
        if self.group <= 0 or self.scales.shape != (n, groups):
            raise ValueError(
                f"scales: shape {tuple(self.scales.shape)}, but {n} x {k} codes in groups of {self.group} "
                f"need ({n}, {groups})"
            )
        if self.zeros is not None and not self.format.integer:
            raise ValueError(f"zeros: {self.format.name} has no zero points")
        if self.zeros is not None and self.zeros.shape != self.scales.shape:
            raise ValueError(f"zeros: shape {tuple(self.zeros.shape)}, but scales have {tuple(self.scales.shape)}")
        if self.order is not None and self.order.shape != (k,):
            raise ValueError(f"order: shape {tuple(self.order.shape)}, but there are {k} inputs")


def _matrix(codes: Tensor) -> tuple[int, int]:
    if codes.dim() != 2 or codes.dtype != torch.uint8:
        raise ValueError(f"codes: a matrix of uint8 is needed, not {codes.dtype} of shape {tuple(codes.shape)}")
    return codes.shape[0], codes.shape[1]


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A quantised matrix [n, k] in the kernels' layout (see `layout`).

    `words` int16 [ceil(n / 64), ceil(k / tile), 64, 32].  `scales` [G, 64 * ceil(n / 64)] in `dtype`, for mxfp4 int16
    [G / 2, ...] with two exponents a word; `zeros` int16 of the scales' shape, or None.  `group` 0 means one scale
    for each output.  `order` as in `Codes`.
    """

    format: Format
    dtype: torch.dtype
    n: int
    k: int
    group: int
    words: Tensor
    scales: Tensor
    zeros: Tensor | None
    order: Tensor | None

    @property
    def bytes(self) -> int:
        """What a product must read of it."""
        parts = (self.words, self.scales, self.zeros)
        return sum(t.numel() * t.element_size() for t in parts if t is not None)
