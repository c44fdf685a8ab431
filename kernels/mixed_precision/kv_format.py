"""Keys and values in 16, 8 or 4 bits: formats, rounding, and how a paged cache lies in memory.

Low-bit rows are rounded for each token and head.  An integer code q of b bits stands for
`(q - 2^(b-1)) * scale + centre`; the centre is a number and not a zero point, so a constant row has scale 0 and is
exact, where `zero = -min / scale` would divide by zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hexdsl.kernels.mixed_precision.checks import shape_of, type_of

LARGEST = 65504.0
"""Scales and centres are float16; beyond its range they saturate."""


@dataclass(frozen=True, slots=True)
class KvFormat:
    """`bits` an element, `dtype` of storage, `statistics` kept for a token and head (scale; scale and centre)."""

    name: str
    bits: int
    dtype: torch.dtype
    statistics: int

    def width(self, head_dim: int) -> int:
        """Elements of storage in a head's row."""
        return head_dim // 2 if self.bits == 4 else head_dim


KV_FORMATS: Mapping[str, KvFormat] = {
    f.name: f
    for f in (
        KvFormat("fp16", 16, torch.float16, 0),
        KvFormat("bf16", 16, torch.bfloat16, 0),
        KvFormat("fp8", 8, torch.uint8, 1),
        KvFormat("int8", 8, torch.uint8, 2),
        KvFormat("int4", 4, torch.uint8, 2),
    )
}


@dataclass(frozen=True, slots=True)
class KvSide:
    """The keys, or the values, of a layer's cache.

    `data` [blocks, block_tokens, kv_heads, width], any strides with the last 1.  `statistics`
    [blocks, kv_heads, 1 or 2, block_tokens] float16: the scales (and centres) of a block's tokens lie side by side, so
    that one head's are read without gaps; None for 16-bit formats.
    """

    format: KvFormat
    data: Tensor
    statistics: Tensor | None


HEAD_DIMS = (32, 64, 128, 256)


def allocate_side(
    kind: str, blocks: int, block_tokens: int, kv_heads: int, head_dim: int, device: torch.device
) -> KvSide:
    """Zeroed storage for one side.  Raises ValueError for an unknown format, or a head_dim not in `HEAD_DIMS`."""
    fmt = format_of(kind, head_dim)
    data = torch.zeros(blocks, block_tokens, kv_heads, fmt.width(head_dim), dtype=fmt.dtype, device=device)
    if not fmt.statistics:
        return KvSide(fmt, data, None)
    shape = (blocks, kv_heads, fmt.statistics, block_tokens)
    return KvSide(fmt, data, torch.zeros(shape, dtype=torch.float16, device=device))


def format_of(kind: str, head_dim: int) -> KvFormat:
    """The format of a name.  Raises ValueError for an unknown one, or a head_dim that kernels do not have."""
    if kind not in KV_FORMATS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KV_FORMATS)}")
    if head_dim not in HEAD_DIMS:
        raise ValueError(f"head_dim: {head_dim} is not one of {', '.join(map(str, HEAD_DIMS))}")
    return KV_FORMATS[kind]


def check_side(name: str, data: Tensor, statistics: Tensor | None, kind: str, head_dim: int, kv_heads: int) -> None:
    """Raises ValueError unless data and statistics are what `allocate_side` makes, perhaps with other strides."""
    fmt = format_of(kind, head_dim)
    shape_of(name, data, (None, None, kv_heads, fmt.width(head_dim)))
    type_of(name, data, fmt.dtype)
    if data.stride(3) != 1:
        raise ValueError(f"{name}: the last dimension must be contiguous")
    if (statistics is None) != (fmt.statistics == 0):
        given = "none" if statistics is None else "some"
        raise ValueError(f"{name}: {kind} has {fmt.statistics or 'no'} statistics, and {given} were given")
    shape_of(f"{name} statistics", statistics, (data.shape[0], kv_heads, fmt.statistics, data.shape[1]))
    type_of(f"{name} statistics", statistics, torch.float16)
    if statistics is not None and statistics.stride(3) != 1:
        raise ValueError(f"{name} statistics: the last dimension must be contiguous")


def quantise_kv(x: Tensor, kind: KvFormat) -> tuple[Tensor, Tensor | None]:
    """Rows x [..., head_dim] to storage [..., width] and statistics float16 [..., 1 or 2] (None for 16-bit formats)."""
    wide = x.float()
    if kind.bits == 16:
        return (wide.clamp(-LARGEST, LARGEST) if kind.name == "fp16" else x).to(kind.dtype), None
    if kind.name == "fp8":
        scale = _finite(wide.abs().amax(-1, keepdim=True) / 448.0)
        codes = _over(wide, scale).clamp(-448.0, 448.0).to(torch.float8_e4m3fn).view(torch.uint8)
        return codes, scale.half()
    low, high = wide.amin(-1, keepdim=True), wide.amax(-1, keepdim=True)
    middle = 1 << (kind.bits - 1)
    scale = _finite((high - low) / (2 * middle - 1))
    centre = _finite(low + scale * middle)
    codes = (_over(wide - centre, scale).round() + middle).clamp(0, 2 * middle - 1).to(torch.uint8)
    return _fold(codes) if kind.bits == 4 else codes, torch.cat((scale, centre), -1).half()


def dequantise_kv(data: Tensor, statistics: Tensor | None, kind: KvFormat) -> Tensor:
    """The inverse, in float64: data [..., width] and statistics [..., 1 or 2] to rows [..., head_dim]."""
    if statistics is None:
        return data.double()
    scale = statistics[..., :1].double()
    if kind.name == "fp8":
        return data.view(torch.float8_e4m3fn).double() * scale
    codes = _unfold(data) if kind.bits == 4 else data
    return (codes.double() - (1 << (kind.bits - 1))) * scale + statistics[..., 1:].double()


def _finite(x: Tensor) -> Tensor:
    """x as float16 can hold it."""
    return x.clamp(-LARGEST, LARGEST).half().float()


def _over(x: Tensor, scale: Tensor) -> Tensor:
    return torch.where(scale > 0, x / torch.where(scale > 0, scale, 1.0), 0.0)


def _fold(codes: Tensor) -> Tensor:
    """Two codes a byte: the first half of a head's dimensions in the low nibbles, the second in the high ones.

    A dot product is then the sum of those of the halves, in the dimensions' own order, and no code changes its
    register (the aim of TurboMind's head alignment, arXiv 2508.15601, there reached by permuting Q).
    """
    low, high = codes.chunk(2, -1)
    return low | (high << 4)


def _unfold(data: Tensor) -> Tensor:
    return torch.cat((data & 0xF, data >> 4), -1)
