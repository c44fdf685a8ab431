"""Attention of packed queries over a cache of any format, in Triton."""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from hexdsl.kernels.mixed_precision._tile import dot, narrow
from hexdsl.kernels.mixed_precision.kv_tile import dequantised, places
from hexdsl.kernels.mixed_precision.softmax import folded, log_sum, share, store_halves


@triton.jit
def prefill_kernel(
    q_ptr, k_ptr, v_ptr, ks_ptr, vs_ptr, table_ptr, start_ptr, length_ptr, o_ptr, lse_ptr,
    scale_log2, window, heads, q_row, q_head, k_block, k_token, k_head, v_block, v_token, v_head,
    ks_block, ks_head, ks_kind, vs_block, vs_head, vs_kind, table_row, o_split, o_row, o_head, lse_split,
    K_FORMAT: tl.constexpr, V_FORMAT: tl.constexpr, TOKENS: tl.constexpr, GROUP: tl.constexpr, CAUSAL: tl.constexpr,
    SPLITS: tl.constexpr, HALF: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One block of queries of one sequence and one key head.

    The GROUP query heads that share the key head are rows beside each other (row = token * GROUP + head), so that a
    key is dequantised once for all of them.  Queries are the last of their sequence: with n queries and a length of
    L, query i stands at L - n + i.  Online softmax: FlashAttention-2 (Dao, arXiv 2307.08691, section 3.1).
    """
    head = tl.program_id(1).to(tl.int64)
    seq = (tl.program_id(2) // SPLITS).to(tl.int64)
    split = (tl.program_id(2) % SPLITS).to(tl.int64)
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    begin_q = tl.load(start_ptr + seq)
    count = tl.load(start_ptr + seq + 1) - begin_q
    if tl.program_id(0) * BM >= count * GROUP:
        return
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    length = tl.load(length_ptr + seq)
    place = length - count + rows // GROUP
    real = rows < count * GROUP
    # The keys that any row of this block may see, and this split's share of them.
    early = length - count + tl.program_id(0) * BM // GROUP
    late = tl.minimum(early + (BM - 1) // GROUP + 2, length) if CAUSAL else length
    first, last = share(tl.maximum(early - window + 1, 0), late, tl.program_id(2) % SPLITS, SPLITS, BN)
    rd, rn = tl.arange(0, HALF), tl.arange(0, BN)
    token = begin_q.to(tl.int64) + rows // GROUP
    query_head = head * GROUP + rows % GROUP
    q_at = q_ptr + (token * q_row + query_head * q_head)[:, None] + rd[None, :]
    q_low = tl.load(q_at, mask=real[:, None], other=0.0)
    q_high = tl.load(q_at + HALF, mask=real[:, None], other=0.0)
    best, total = tl.full((BM,), float("-inf"), tl.float32), tl.zeros((BM,), tl.float32)
    low, high = tl.zeros((BM, HALF), tl.float32), tl.zeros((BM, HALF), tl.float32)
    for begin in range(first, last, BN):
        at = begin + rn
        inside = at < last
        block, offset = places(table_ptr + seq * table_row, at, inside, TOKENS)
        k_low, k_high = dequantised(
            k_ptr, ks_ptr, block, offset, head, k_block, k_token, k_head, ks_block, ks_head, ks_kind, inside,
            K_FORMAT, HALF, dtype,
        )  # fmt: skip
        score = dot(q_high, tl.trans(k_high), dot(q_low, tl.trans(k_low), tl.zeros((BM, BN), tl.float32))) * scale_log2
        seen = inside[None, :] & (at[None, :] > place[:, None] - window)
        seen &= at[None, :] <= (place[:, None] if CAUSAL else length)
        score = tl.where(seen, score, float("-inf"))
        p, fade, best, total = folded(score, best, total, 1)
        v_low, v_high = dequantised(
            v_ptr, vs_ptr, block, offset, head, v_block, v_token, v_head, vs_block, vs_head, vs_kind, inside,
            V_FORMAT, HALF, dtype,
        )  # fmt: skip
        p, fade = narrow(p, dtype), fade[:, None]
        low, high = dot(p, v_low, low * fade), dot(p, v_high, high * fade)
    norm = 1.0 / tl.where(total > 0, total, 1.0)[:, None]
    o_at = o_ptr + split * o_split + (token * o_row + query_head * o_head)[:, None] + rd[None, :]
    store_halves(o_at, low * norm, high * norm, real[:, None], HALF)
    tl.store(lse_ptr + split * lse_split + token * heads + query_head, log_sum(best, total), mask=real)
