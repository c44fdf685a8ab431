"""Keys and values as bytes for the way between replicas: as they are, or quantised to 8 or 4 bits for the way only.

Each token's vector of a head is quantised by itself, asymmetrically: code 0 stands for its least value, the greatest
code for its greatest (per-token quantisation as of values in Liu et al., "KIVI", 2024).  Scale and least value travel
in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hexdsl.runtime.config import Dtype

SHAPE = tuple[int, int, int, int]
"""Tokens, 2 (keys and values), heads, head_dim."""

DTYPES: Mapping[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

PLAIN = (16, 32)
SCALES = 2 * 4
"""Bytes of a vector's scale and least value."""


def name_of(dtype: torch.dtype) -> Dtype:
    return next(name for name, known in DTYPES.items() if known == dtype)


def bytes_of(shape: SHAPE, dtype: torch.dtype, bits: int) -> int:
    """How many bytes `pack` makes of a tensor of this shape."""
    tokens, both, heads, width = shape
    vectors = tokens * both * heads
    if bits in PLAIN:
        return vectors * width * dtype.itemsize
    return vectors * (-(-width * bits // 8) + SCALES)


def pack(kv: Tensor, bits: int) -> bytes:
    """[tokens, 2, heads, head_dim] as bytes; 16 and 32 bits mean as it is."""
    if bits in PLAIN:
        return _raw(kv)
    x = kv.float()
    least, greatest = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)
    scale = (greatest - least) / _levels(bits)
    steps = torch.where(scale > 0, scale, torch.ones_like(scale))  # a constant vector is its least value
    codes = ((x - least) / steps).round_().clamp_(0, _levels(bits)).to(torch.uint8)
    return _raw(torch.cat([scale, least], dim=-1)) + _raw(_squeeze(codes) if bits == 4 else codes)


def unpack(data: bytearray, shape: SHAPE, dtype: torch.dtype, bits: int) -> Tensor:
    """The tensor that was packed.  `data` must have the length that `bytes_of` tells."""
    if bits in PLAIN:
        return torch.frombuffer(data, dtype=dtype).view(shape)
    *vectors, width = shape
    head = SCALES * shape[0] * shape[1] * shape[2]
    scales = torch.frombuffer(data, dtype=torch.float32, count=head // 4).view(*vectors, 2)
    codes = torch.frombuffer(data, dtype=torch.uint8, offset=head).view(*vectors, -1)
    if bits == 4:
        codes = _unsqueeze(codes)[..., :width]
    restored: Tensor = codes * scales[..., :1] + scales[..., 1:]
    return restored.to(dtype)


def _levels(bits: int) -> int:
    return (1 << bits) - 1


def _squeeze(codes: Tensor) -> Tensor:
    """Two codes a byte, the first in its lower half; an odd width is filled up."""
    codes = torch.nn.functional.pad(codes, (0, codes.shape[-1] % 2))
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def _unsqueeze(codes: Tensor) -> Tensor:
    return torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2)


def _raw(x: Tensor) -> bytes:
    return x.contiguous().view(torch.uint8).cpu().numpy().tobytes()
