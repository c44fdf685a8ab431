"""16-bit activations times packed weights, in Triton (see `layout` for the weights' side)."""

# ruff: noqa: RET505  (Triton compiles what follows an `if` that returned, unless it is an `else`)
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from hexdsl.kernels.mixed_precision._tile import dot, narrow
from hexdsl.kernels.mixed_precision.decoding import e2m1, e4m3, e8m0_of_pair, integers, scaled


@triton.jit
def weights(code: tl.tensor, zero: tl.tensor, FORMAT: tl.constexpr, dtype: tl.constexpr) -> tl.tensor:
    """uint16 codes to numbers, before scales."""
    if FORMAT == "int4":
        return integers(code, zero, 4, dtype)
    elif FORMAT == "int8":
        return integers(code, zero, 8, dtype)
    elif FORMAT == "fp8":
        return e4m3(code, dtype)
    else:
        return e2m1(code, dtype)


@triton.jit
def zero_points(
    z_ptr: tl.tensor, at: tl.tensor, mask: tl.tensor, FORMAT: tl.constexpr, HAS_ZERO: tl.constexpr
) -> tl.tensor:
    """uint16 zero points [BN, 1] at an index, or the middle code."""
    if HAS_ZERO:
        return tl.load(z_ptr + at, mask=mask, other=0).to(tl.uint16, bitcast=True)[:, None]
    else:
        return tl.full((at.shape[0], 1), 8 if FORMAT == "int4" else 128, tl.uint16)


@triton.jit
def weight_only_kernel(
    x_ptr, w_ptr, s_ptr, z_ptr, b_ptr, o_ptr, M, N, K, tiles, span, x_row, s_row, o_split, o_row,
    FORMAT: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, HAS_ZERO: tl.constexpr, HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr, PLANE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """o[split] = x[M, K] @ w[N, K].T over the split's `span` tiles, computed as w @ x.T.

    The weights are the left operand, which tensor cores take from registers: what the decoding leaves there needs no
    store to shared memory.  GROUP 0 is one scale an output, applied to the sum.
    """
    PLANES: tl.constexpr = 16 // BITS
    TILE: tl.constexpr = PLANES * PLANE
    STEP: tl.constexpr = 2 * PLANE if FORMAT == "mxfp4" else GROUP
    dtype: tl.constexpr = x_ptr.dtype.element_ty
    # float16 cannot hold every power of two, so there mxfp4's scales meet the partial sum of their 32 inputs instead.
    LATE: tl.constexpr = FORMAT == "mxfp4" and dtype == tl.float16
    rm = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    rn = tl.program_id(1).to(tl.int64) * BN + tl.arange(0, BN)
    rp = tl.arange(0, PLANE)
    in_m, in_n = rm < M, rn < N
    w_rows = w_ptr + (rn // ROWS) * tiles * (ROWS * PLANE) + (rn % ROWS) * PLANE
    x_rows = x_ptr + rm * x_row
    first = tl.program_id(2) * span
    acc = tl.zeros((BN, BM), tl.float32)
    for tile in range(first, tl.minimum(first + span, tiles)):
        words = tl.load(w_rows[:, None] + (tile * (ROWS * PLANE) + rp)[None, :], mask=in_n[:, None], other=0)
        words = words.to(tl.uint16, bitcast=True)
        for plane in tl.static_range(PLANES):
            k = tile * TILE + plane * PLANE + rp
            x = tl.load(x_rows[None, :] + k[:, None], mask=in_m[None, :] & (k < K)[:, None], other=0.0)
            if GROUP == 0:
                zero = zero_points(z_ptr, rn, in_n, FORMAT, HAS_ZERO)
            else:
                if (plane * PLANE) % STEP == 0:
                    at = tl.cast((tile * TILE + plane * PLANE) // STEP, tl.int64) * s_row + rn
                    group = tl.load(s_ptr + at, mask=in_n, other=0)[:, None]
                    zero = zero_points(z_ptr, at, in_n, FORMAT, HAS_ZERO)
                scale = e8m0_of_pair(group, plane % 2) if FORMAT == "mxfp4" else group
            w = weights((words >> (plane * BITS)) & ((1 << BITS) - 1), zero, FORMAT, dtype)
            if LATE:
                acc += dot(w, x, tl.zeros((BN, BM), tl.float32)) * scale
            elif GROUP > 0:
                acc = dot(scaled(w, scale, dtype), x, acc)
            else:
                acc = dot(narrow(w, dtype), x, acc)
    if GROUP == 0:
        acc *= tl.load(s_ptr + rn, mask=in_n, other=0).to(tl.float32)[:, None]
    if HAS_BIAS:
        acc += tl.load(b_ptr + rn, mask=in_n, other=0).to(tl.float32)[:, None]
    out = o_ptr + tl.program_id(2).to(tl.int64) * o_split + rm[None, :] * o_row + rn[:, None]
    tl.store(out, narrow(acc, o_ptr.dtype.element_ty), mask=in_m[None, :] & in_n[:, None])


@triton.jit
def reduce_kernel(
    p_ptr, b_ptr, o_ptr, M, N, p_split,
    SPLITS: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """o[M, N] = the sum of partial sums [SPLITS, M, N], always in the same order, plus bias [N]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < M * N
    total = tl.zeros((BLOCK,), tl.float32)
    for split in range(SPLITS):
        total += tl.load(p_ptr + split * p_split + at, mask=inside, other=0.0)
    if HAS_BIAS:
        total += tl.load(b_ptr + at % N, mask=inside, other=0.0).to(tl.float32)
    tl.store(o_ptr + at, narrow(total, o_ptr.dtype.element_ty), mask=inside)
