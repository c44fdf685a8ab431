"""The steps that Triton's interpreter gets wrong for bfloat16, written so that both worlds agree."""

# ruff: noqa: RET505  (Triton compiles what follows an `if` that returned, unless it is an `else`)
# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import os

import triton
import triton.language as tl

INTERP = tl.constexpr(os.environ.get("TRITON_INTERPRET", "0") == "1")
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def dot(a: tl.tensor, b: tl.tensor, acc: tl.tensor) -> tl.tensor:
    """acc + a @ b.  The interpreter keeps bfloat16 as raw bits, so there it is widened first."""
    if INTERP:
        return acc + tl.dot(wide(a), wide(b), input_precision="ieee", out_dtype=acc.dtype)
    else:
        return tl.dot(a, b, acc, input_precision="ieee", out_dtype=acc.dtype)


@triton.jit
def wide(x: tl.tensor) -> tl.tensor:
    """float16 and bfloat16 as float32; what is wider stays."""
    if x.dtype == tl.float64:
        return x
    else:
        return x.to(tl.float32)


@triton.jit
def narrow(x: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """To `dtype`, to nearest and ties to even; the interpreter's own cast to bfloat16 truncates."""
    if INTERP and dtype == tl.bfloat16:
        u = x.to(tl.float32).to(tl.uint32, bitcast=True)
        u = (u + 0x7FFF + ((u >> 16) & 1)) >> 16
        return u.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return x.to(dtype)
