"""The steps of attention that prefill and decode share, inside kernels."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from hexdsl.kernels.mixed_precision._tile import narrow


@triton.jit
def share(start: tl.tensor, end: tl.tensor, part: tl.tensor, parts: tl.tensor, BN: tl.constexpr) -> tl.tensor:
    """The begin and end of one of the parts of [start, end), each but the last a multiple of BN long."""
    span = tl.cdiv(tl.cdiv(tl.maximum(end - start, 0), parts), BN) * BN
    return start + part * span, tl.minimum(start + (part + 1) * span, end)


@triton.jit
def folded(score: tl.tensor, best: tl.tensor, total: tl.tensor, AXIS: tl.constexpr) -> tl.tensor:
    """One step of online softmax over keys along AXIS: exp2 of the scores less the new maximum, by how much what was
    summed so far fades, the new maximum, and the new sum.  Where no key was seen yet, all of it is 0."""
    better = tl.maximum(best, tl.max(score, AXIS))
    safe = tl.where(better == float("-inf"), 0.0, better)
    p, fade = tl.exp2(score - tl.expand_dims(safe, AXIS)), tl.exp2(best - safe)
    return p, fade, better, total * fade + tl.sum(p, AXIS)


@triton.jit
def log_sum(best: tl.tensor, total: tl.tensor) -> tl.tensor:
    """log2 of the sum of exp2 of scores, from their maximum and the sum relative to it; -inf for none."""
    return tl.where(total > 0, best + tl.log2(tl.where(total > 0, total, 1.0)), float("-inf"))


@triton.jit
def store_halves(at: tl.tensor, low: tl.tensor, high: tl.tensor, mask: tl.tensor, HALF: tl.constexpr) -> None:
    """Both halves of outputs, narrowed to the memory's type."""
    tl.store(at, narrow(low, at.dtype.scalar.element_ty), mask=mask)
    tl.store(at + HALF, narrow(high, at.dtype.scalar.element_ty), mask=mask)
