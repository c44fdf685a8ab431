"""Reading tiles of a low-bit cache, inside kernels."""

# ruff: noqa: RET505  (Triton compiles what follows an `if` that returned, unless it is an `else`)
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from hexdsl.kernels.mixed_precision._tile import narrow
from hexdsl.kernels.mixed_precision.decoding import e4m3, integers, wide


@triton.jit
def numbers(code: tl.tensor, FORMAT: tl.constexpr, dtype: tl.constexpr) -> tl.tensor:
    """What was loaded, in `dtype` or wider: 16-bit numbers, codes less their middle, e4m3 before its scale."""
    if FORMAT == "int4":
        return integers(code.to(tl.uint16), tl.full((1, 1), 8, tl.uint16), 4, dtype)
    elif FORMAT == "int8":
        return integers(code.to(tl.uint16), tl.full((1, 1), 128, tl.uint16), 8, dtype)
    elif FORMAT == "fp8":
        return e4m3(code.to(tl.uint16), dtype)
    elif FORMAT == "bf16" and dtype == tl.float16:
        return tl.minimum(tl.maximum(wide(code).to(tl.float32), -65504.0), 65504.0)
    else:
        return wide(code)


@triton.jit
def operand(values: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """Values as `dtype`; codes and e4m3 numbers lose nothing."""
    if values.dtype == dtype:
        return values
    else:
        return narrow(values.to(tl.float32), dtype)


@triton.jit
def halves(
    rows: tl.tensor, inside: tl.tensor, FORMAT: tl.constexpr, HALF: tl.constexpr, dtype: tl.constexpr
) -> tl.tensor:
    """The numbers in the rows [BN] of pointers, twice [BN, HALF]: both halves of a head's dimensions."""
    at = rows[:, None] + tl.arange(0, HALF)[None, :]
    if FORMAT == "int4":
        both = tl.load(at, mask=inside[:, None], other=0)
        low, high = both & 0xF, both >> 4
    else:
        low = tl.load(at, mask=inside[:, None], other=0)
        high = tl.load(at + HALF, mask=inside[:, None], other=0)
    return numbers(low, FORMAT, dtype), numbers(high, FORMAT, dtype)


@triton.jit
def statistics(ptr: tl.tensor, at: tl.tensor, inside: tl.tensor, stride: tl.tensor, FORMAT: tl.constexpr) -> tl.tensor:
    """Scales [BN] at an index, and centres a stride further, in float32; 1 and 0 where a format has none."""
    if FORMAT == "int4" or FORMAT == "int8":
        scale = tl.load(ptr + at, mask=inside, other=0.0).to(tl.float32)
        centre = tl.load(ptr + at + stride, mask=inside, other=0.0).to(tl.float32)
    elif FORMAT == "fp8":
        scale = tl.load(ptr + at, mask=inside, other=0.0).to(tl.float32)
        centre = tl.zeros(inside.shape, tl.float32)
    else:
        scale = tl.full(inside.shape, 1.0, tl.float32)
        centre = tl.zeros(inside.shape, tl.float32)
    return scale, centre


@triton.jit
def places(table: tl.tensor, at: tl.tensor, inside: tl.tensor, TOKENS: tl.constexpr) -> tl.tensor:
    """Blocks and offsets (int64) of a sequence's positions: through its block table, or, if TOKENS is 0, in the one
    block that holds all sequences, where `table` points to the place of the sequence's first token."""
    if TOKENS == 0:
        return tl.zeros(at.shape, tl.int64), tl.load(table).to(tl.int64) + at
    else:
        return tl.load(table + at // TOKENS, mask=inside, other=0).to(tl.int64), (at % TOKENS).to(tl.int64)


@triton.jit
def restored(
    rows: tl.tensor, scale: tl.tensor, centre: tl.tensor, FORMAT: tl.constexpr, dtype: tl.constexpr
) -> tl.tensor:
    """Rows of numbers [BN, HALF] times their scales plus their centres, as `dtype`; 16-bit formats as they are."""
    if FORMAT == "fp16" or FORMAT == "bf16":
        return operand(rows, dtype)
    elif FORMAT == "fp8":
        return narrow(rows.to(tl.float32) * scale[:, None], dtype)
    else:
        return narrow(rows.to(tl.float32) * scale[:, None] + centre[:, None], dtype)


@triton.jit
def coded(
    d_ptr, s_ptr, block, offset, head, d_block, d_token, d_head, s_block, s_head, s_kind, inside,
    FORMAT: tl.constexpr, HALF: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Keys or values at blocks and offsets [BN]: both halves before scales, scales, centres."""
    low, high = halves(d_ptr + block * d_block + offset * d_token + head * d_head, inside, FORMAT, HALF, dtype)
    scale, centre = statistics(s_ptr, block * s_block + head * s_head + offset, inside, s_kind, FORMAT)
    return low, high, scale, centre


@triton.jit
def dequantised(
    d_ptr, s_ptr, block, offset, head, d_block, d_token, d_head, s_block, s_head, s_kind, inside,
    FORMAT: tl.constexpr, HALF: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """The same, dequantised: both halves as `dtype`."""
    low, high, scale, centre = coded(
        d_ptr, s_ptr, block, offset, head, d_block, d_token, d_head, s_block, s_head, s_kind, inside,
        FORMAT, HALF, dtype,
    )  # fmt: skip
    return restored(low, scale, centre, FORMAT, dtype), restored(high, scale, centre, FORMAT, dtype)
