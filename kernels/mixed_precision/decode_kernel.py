"""Decode attention over a paged cache of any format, in Triton."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from hexdsl.kernels.mixed_precision._tile import dot, narrow
from hexdsl.kernels.mixed_precision.decoding import wide
from hexdsl.kernels.mixed_precision.kv_tile import coded, operand, places
from hexdsl.kernels.mixed_precision.softmax import folded, log_sum, share, store_halves


@triton.jit
def decode_kernel(
    q_ptr, k_ptr, v_ptr, ks_ptr, vs_ptr, table_ptr, length_ptr, o_ptr, lse_ptr,
    scale_log2, window, heads, q_row, q_head, k_block, k_token, k_head, v_block, v_token, v_head,
    ks_block, ks_head, ks_kind, vs_block, vs_head, vs_kind, table_row, o_split, o_row, o_head, lse_split,
    K_FORMAT: tl.constexpr, V_FORMAT: tl.constexpr, TOKENS: tl.constexpr, GROUP: tl.constexpr, HEADS: tl.constexpr,
    HALF: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One sequence, one key head, one split of the sequence; the GROUP query heads that share the key head together.

    Keys and values are left operands and query heads are columns, so that a group is padded to 8 and not to 16
    (TurboMind, arXiv 2508.15601).  With codes k and v, scales s and centres c, and without ever forming a dequantised
    row: `q k = s (q . code) + c sum(q)`, and `sum p v = sum (p s) code + sum p c`.  Sums of p s stay below 1 by
    dividing by the largest s so far, which float16 needs.
    """
    seq = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    length = tl.load(length_ptr + seq)
    first, last = share(tl.maximum(length - window, 0), length, tl.program_id(2), tl.num_programs(2), BN)
    rh, rd, rn = tl.arange(0, HEADS), tl.arange(0, HALF), tl.arange(0, BN)
    real = rh < GROUP
    q_at = q_ptr + seq * q_row + (head * GROUP + rh)[None, :] * q_head + rd[:, None]
    q_low = tl.load(q_at, mask=real[None, :], other=0.0)
    q_high = tl.load(q_at + HALF, mask=real[None, :], other=0.0)
    q_sum = tl.sum(wide(q_low).to(tl.float32), 0) + tl.sum(wide(q_high).to(tl.float32), 0)
    best = tl.full((HEADS,), float("-inf"), tl.float32)
    total, centres = tl.zeros((HEADS,), tl.float32), tl.zeros((HEADS,), tl.float32)
    low, high = tl.zeros((HALF, HEADS), tl.float32), tl.zeros((HALF, HEADS), tl.float32)
    unit = 0.0
    for begin in range(first, last, BN):
        inside = begin + rn < last
        block, offset = places(table_ptr + seq * table_row, begin + rn, inside, TOKENS)
        k_low, k_high, scale, centre = coded(
            k_ptr, ks_ptr, block, offset, head, k_block, k_token, k_head, ks_block, ks_head, ks_kind, inside,
            K_FORMAT, HALF, dtype,
        )  # fmt: skip
        score = dot(operand(k_low, dtype), q_low, tl.zeros((BN, HEADS), tl.float32))
        score = dot(operand(k_high, dtype), q_high, score)
        score = (score * scale[:, None] + centre[:, None] * q_sum[None, :]) * scale_log2
        score = tl.where(inside[:, None], score, float("-inf"))
        p, fade, best, total = folded(score, best, total, 0)
        v_low, v_high, scale, centre = coded(
            v_ptr, vs_ptr, block, offset, head, v_block, v_token, v_head, vs_block, vs_head, vs_kind, inside,
            V_FORMAT, HALF, dtype,
        )  # fmt: skip
        largest = tl.maximum(unit, tl.max(scale, 0))
        divisor = tl.where(largest > 0, largest, 1.0)
        centres = centres * fade + tl.sum(p * centre[:, None], 0)
        p = narrow(p * (scale / divisor)[:, None], dtype)
        fade = (fade * (unit / divisor))[None, :]
        low = dot(tl.trans(operand(v_low, dtype)), p, low * fade)
        high = dot(tl.trans(operand(v_high, dtype)), p, high * fade)
        unit = largest
    norm = 1.0 / tl.where(total > 0, total, 1.0)[None, :]
    split = tl.program_id(2).to(tl.int64)
    o_at = o_ptr + split * o_split + seq * o_row + (head * GROUP + rh)[None, :] * o_head + rd[:, None]
    low, high = (low * unit + centres[None, :]) * norm, (high * unit + centres[None, :]) * norm
    store_halves(o_at, low, high, real[None, :], HALF)
    tl.store(lse_ptr + split * lse_split + seq * heads + head * GROUP + rh, log_sum(best, total), mask=real)


@triton.jit
def merge_kernel(
    p_ptr, lse_ptr, o_ptr, heads, p_split, p_row, p_head, lse_split, o_row, o_head,
    SPLITS: tl.constexpr, SPLIT_BLOCK: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """o[row, head] = the partial outputs of the splits, weighted by exp2 of their log-sum-exp, in fixed order."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    rd = tl.arange(0, DIM)
    rs = tl.arange(0, SPLIT_BLOCK)
    lse = tl.load(lse_ptr + rs * lse_split + row * heads + head, mask=rs < SPLITS, other=float("-inf"))
    best = tl.max(lse, 0)
    best = tl.where(best == float("-inf"), 0.0, best)
    total = 0.0
    out = tl.zeros((DIM,), tl.float32)
    for split in range(SPLITS):
        weight = tl.exp2(tl.load(lse_ptr + split * lse_split + row * heads + head) - best)
        total += weight
        out += weight * tl.load(p_ptr + split * p_split + row * p_row + head * p_head + rd)
    out = out / tl.where(total > 0, total, 1.0)
    tl.store(o_ptr + row * o_row + head * o_head + rd, narrow(out, o_ptr.dtype.element_ty))
