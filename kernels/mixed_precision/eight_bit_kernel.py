"""8-bit activations times 8-bit weights, and the rounding of activations, in Triton."""

# ruff: noqa: RET505  (Triton compiles what follows an `if` that returned, unless it is an `else`)
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from hexdsl.kernels.mixed_precision._tile import INTERP, narrow
from hexdsl.kernels.mixed_precision.decoding import wide
from hexdsl.kernels.mixed_precision.encoding import nearest, to_e4m3


@triton.jit
def dot8(w: tl.tensor, x: tl.tensor, acc: tl.tensor) -> tl.tensor:
    """acc + w @ x in int32, or in float32 for fp8.

    Hopper's fp8 units keep 14 bits while they add; 128 inputs later the sum goes on in float32 (DeepSeek-V3 report,
    arXiv 2412.19437, section 3.3.2).
    """
    if acc.dtype == tl.int32:
        return tl.dot(w, x, acc, out_dtype=tl.int32)
    elif INTERP:
        return acc + tl.dot(w.to(tl.float32), x.to(tl.float32), input_precision="ieee")
    else:
        return tl.dot(w, x, acc, max_num_imprecise_acc=128)


@triton.jit
def eight_bit_kernel(
    x_ptr, w_ptr, sx_ptr, sw_ptr, b_ptr, o_ptr, M, N, K, span, x_row, w_row, o_split, o_row,
    HAS_BIAS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """o[split] = (x * sx) @ (w * sw).T + bias over `span` blocks of K, computed as w @ x.T."""
    TOTAL: tl.constexpr = tl.int32 if x_ptr.dtype.element_ty == tl.int8 else tl.float32
    rm = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    rn = tl.program_id(1).to(tl.int64) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    in_m, in_n = rm < M, rn < N
    w_rows, x_rows = w_ptr + rn * w_row, x_ptr + rm * x_row
    first = tl.program_id(2) * span
    acc = tl.zeros((BN, BM), TOTAL)
    for block in range(first, tl.minimum(first + span, tl.cdiv(K, BK))):
        k = block * BK + rk
        w = tl.load(w_rows[:, None] + k[None, :], mask=in_n[:, None] & (k < K)[None, :], other=0.0)
        x = tl.load(x_rows[None, :] + k[:, None], mask=in_m[None, :] & (k < K)[:, None], other=0.0)
        acc = dot8(w, x, acc)
    sw = tl.load(sw_ptr + rn, mask=in_n, other=0.0).to(tl.float32)
    sx = tl.load(sx_ptr + rm, mask=in_m, other=0.0).to(tl.float32)
    total = acc.to(tl.float32) * sw[:, None] * sx[None, :]
    if HAS_BIAS:
        total += tl.load(b_ptr + rn, mask=in_n, other=0.0).to(tl.float32)[:, None]
    out = o_ptr + tl.program_id(2).to(tl.int64) * o_split + rm[None, :] * o_row + rn[:, None]
    tl.store(out, narrow(total, o_ptr.dtype.element_ty), mask=in_m[None, :] & in_n[:, None])


@triton.jit
def quantise_rows_kernel(x_ptr, q_ptr, s_ptr, K, x_row, q_row, FP8: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """One row: its largest magnitude becomes 127 or 448; codes go to q (int8, or the bits of e4m3), the scale to s."""
    TOP: tl.constexpr = 448.0 if FP8 else 127.0
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    largest = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, K, BLOCK):
        x = wide(tl.load(x_ptr + row * x_row + k + at, mask=k + at < K, other=0.0)).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(x))
    scale = tl.max(largest, 0) / TOP
    tl.store(s_ptr + row, scale)
    divisor = tl.where(scale > 0, scale, 1.0)
    for k in range(0, K, BLOCK):
        x = wide(tl.load(x_ptr + row * x_row + k + at, mask=k + at < K, other=0.0)).to(tl.float32)
        q = tl.minimum(tl.maximum(x / divisor, -TOP), TOP)
        code = to_e4m3(q) if FP8 else nearest(q).to(tl.int8)
        tl.store(q_ptr + row * q_row + k + at, code, mask=k + at < K)
