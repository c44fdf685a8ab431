"""From numbers to codes, inside kernels, by bit patterns: correct in the interpreter and on chips without fp8."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def nearest(x: tl.tensor) -> tl.tensor:
    """float32 below 2^22 in magnitude to int32, ties to even: next to 1.5 * 2^23 the last bit of a float counts 1."""
    return (x + 12582912.0).to(tl.int32, bitcast=True) - 0x4B400000


@triton.jit
def to_e4m3(x: tl.tensor) -> tl.tensor:
    """float32 to e4m3 codes (uint8), ties to even, beyond 448 the largest number."""
    bits = x.to(tl.uint32, bitcast=True)
    magnitude = tl.minimum(tl.abs(x), 448.0)
    m = magnitude.to(tl.uint32, bitcast=True)
    normal = ((m + 0x7FFFF + ((m >> 20) & 1)) >> 20) - 960
    # 2^14 has a last bit that counts 2^-9, as the subnormal numbers of e4m3 do.
    subnormal = (magnitude + 16384.0).to(tl.uint32, bitcast=True) - 0x46800000
    code = tl.where(magnitude < 0.015625, subnormal, normal)
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)
