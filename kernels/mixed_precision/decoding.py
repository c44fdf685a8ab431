"""From codes to tensor-core operands, inside kernels: bit patterns and magic numbers, no integer-to-float conversion.

The interpreter has no bfloat16 arithmetic, so there every step is widened to float32; compiled, everything stays in
the operand's own type.
"""

# ruff: noqa: RET505  (Triton compiles what follows an `if` that returned, unless it is an `else`)
# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from hexdsl.kernels.mixed_precision._tile import INTERP, narrow


@triton.jit
def wide(x: tl.tensor) -> tl.tensor:
    """x, in float32 where the interpreter could not compute with it.  By its bits: the interpreter's own conversion of
    bfloat16 spoils subnormal numbers."""
    if INTERP and x.dtype == tl.bfloat16:
        return (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        return x


@triton.jit
def small_integer(code: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """uint16 codes to 128 + code (bfloat16, codes below 128) or 1024 + code (float16, codes below 1024).

    The code lies in the mantissa of a number whose last bit counts 1, so no conversion is needed.
    """
    magic: tl.constexpr = 0x4300 if dtype == tl.bfloat16 else 0x6400
    return wide((code | magic).to(dtype, bitcast=True))


@triton.jit
def byte(code: tl.tensor) -> tl.tensor:
    """uint16 codes below 2^15 to 2^23 + code in float32, by the same trick: bfloat16 has no room for a byte."""
    return (code.to(tl.uint32) | 0x4B000000).to(tl.float32, bitcast=True)


@triton.jit
def integers(code: tl.tensor, zero: tl.tensor, BITS: tl.constexpr, dtype: tl.constexpr) -> tl.tensor:
    """code - zero, exact: in `dtype`, or in float32 for bytes that become bfloat16."""
    if BITS == 8 and dtype == tl.bfloat16:
        return byte(code) - byte(zero)
    else:
        return small_integer(code, dtype) - small_integer(zero, dtype)


@triton.jit
def e4m3(code: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """e4m3 codes (uint16) to `dtype`, exact, subnormals too: the exponent moves into place, a factor sets the bias."""
    shift: tl.constexpr = 4 if dtype == tl.bfloat16 else 7
    bias: tl.constexpr = 1.329227995784916e36 if dtype == tl.bfloat16 else 256.0
    bits = ((code & 0x80) << 8) | ((code & 0x7F) << shift)
    return wide(bits.to(tl.uint16).to(dtype, bitcast=True)) * bias


@triton.jit
def e2m1(code: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """e2m1 codes (uint16) to `dtype`, exact, in the same way."""
    shift: tl.constexpr = 6 if dtype == tl.bfloat16 else 9
    bias: tl.constexpr = 8.507059173023462e37 if dtype == tl.bfloat16 else 16384.0
    bits = ((code & 0x8) << 12) | ((code & 0x7) << shift)
    return wide(bits.to(tl.uint16).to(dtype, bitcast=True)) * bias


@triton.jit
def e8m0_of_pair(pair: tl.tensor, half: tl.constexpr) -> tl.tensor:
    """One of the two e8m0 exponents (below 255) in int16 words, as float32; 2^-127 is a subnormal number."""
    exponent = (pair.to(tl.uint32) >> (8 * half)) & 0xFF
    return tl.where(exponent == 0, 0x400000, exponent << 23).to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit
def scaled(values: tl.tensor, scale: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """values * scale as `dtype`."""
    if values.dtype == tl.float32:
        return narrow(values * scale.to(tl.float32), dtype)
    else:
        return values * scale.to(dtype)
