"""Rounding new keys or values and writing them into the cache, in Triton."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from hexdsl.kernels.mixed_precision._tile import narrow
from hexdsl.kernels.mixed_precision.decoding import wide
from hexdsl.kernels.mixed_precision.encoding import nearest, to_e4m3


@triton.jit
def storable(x: tl.tensor) -> tl.tensor:
    """x as float16 can hold it, in float32."""
    return tl.minimum(tl.maximum(x, -65504.0), 65504.0).to(tl.float16).to(tl.float32)


@triton.jit
def over(x: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """x / scale [BLOCK, HALF], 0 where the scale [BLOCK] is 0."""
    return tl.where((scale > 0)[:, None], x / tl.where(scale > 0, scale, 1.0)[:, None], 0.0)


@triton.jit
def integer_codes(x: tl.tensor, scale: tl.tensor, centre: tl.tensor, BITS: tl.constexpr) -> tl.tensor:
    """The nearest codes [BLOCK, HALF] of rows, in int32."""
    MIDDLE: tl.constexpr = 1 << (BITS - 1)
    q = tl.minimum(tl.maximum(over(x - centre[:, None], scale), -MIDDLE), MIDDLE - 1)
    return nearest(q) + MIDDLE


@triton.jit
def kv_write_kernel(
    x_ptr, d_ptr, s_ptr, slot_ptr, tokens, x_row, x_head, d_block, d_token, d_head, s_block, s_head, s_kind,
    FORMAT: tl.constexpr, TOKENS: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows of BLOCK tokens of one head go to their slots (block * TOKENS + offset; below 0: nowhere)."""
    token = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    head = tl.program_id(1).to(tl.int64)
    rd = tl.arange(0, HALF)
    slot = tl.load(slot_ptr + token, mask=token < tokens, other=-1).to(tl.int64)
    real = slot >= 0
    place = tl.where(real, slot, 0)
    block, offset = place // TOKENS, place % TOKENS
    x_at = x_ptr + (token * x_row + head * x_head)[:, None] + rd[None, :]
    low, high = tl.load(x_at, mask=real[:, None], other=0.0), tl.load(x_at + HALF, mask=real[:, None], other=0.0)
    low, high = wide(low).to(tl.float32), wide(high).to(tl.float32)
    d_at = d_ptr + (block * d_block + offset * d_token + head * d_head)[:, None] + rd[None, :]
    s_at = block * s_block + head * s_head + offset
    if FORMAT == "fp8":
        scale = storable(tl.maximum(tl.max(tl.abs(low), 1), tl.max(tl.abs(high), 1)) / 448.0)
        tl.store(s_ptr + s_at, scale.to(tl.float16), mask=real)
        tl.store(d_at, to_e4m3(over(low, scale)), mask=real[:, None])
        tl.store(d_at + HALF, to_e4m3(over(high, scale)), mask=real[:, None])
    elif FORMAT == "int8" or FORMAT == "int4":
        BITS: tl.constexpr = 8 if FORMAT == "int8" else 4
        least = tl.minimum(tl.min(low, 1), tl.min(high, 1))
        scale = storable((tl.maximum(tl.max(low, 1), tl.max(high, 1)) - least) / ((1 << BITS) - 1))
        centre = storable(least + scale * (1 << (BITS - 1)))
        tl.store(s_ptr + s_at, scale.to(tl.float16), mask=real)
        tl.store(s_ptr + s_at + s_kind, centre.to(tl.float16), mask=real)
        low, high = integer_codes(low, scale, centre, BITS), integer_codes(high, scale, centre, BITS)
        if BITS == 4:
            tl.store(d_at, (low | (high << 4)).to(tl.uint8), mask=real[:, None])
        else:
            tl.store(d_at, low.to(tl.uint8), mask=real[:, None])
            tl.store(d_at + HALF, high.to(tl.uint8), mask=real[:, None])
    else:
        dtype: tl.constexpr = d_ptr.dtype.element_ty
        if FORMAT == "fp16":
            low, high = tl.minimum(tl.maximum(low, -65504.0), 65504.0), tl.minimum(tl.maximum(high, -65504.0), 65504.0)
        tl.store(d_at, narrow(low, dtype), mask=real[:, None])
        tl.store(d_at + HALF, narrow(high, dtype), mask=real[:, None])
