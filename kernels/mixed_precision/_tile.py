"""The two steps that Triton's interpreter gets wrong for bfloat16, written so that both worlds agree."""

# ruff: noqa: RET505  (Triton compiles what follows an `if` that returned, unless it is an `else`)
# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import os

import triton
import triton.language as tl

INTERP = tl.constexpr(os.environ.get("TRITON_INTERPRET", "0") == "1")


@triton.jit
def dot(a: tl.tensor, b: tl.tensor, acc: tl.tensor) -> tl.tensor:
    """acc + a @ b.  The interpreter keeps bfloat16 as raw bits, so there it is widened first."""
    if INTERP:
        return acc + tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    else:
        return tl.dot(a, b, acc)


@triton.jit
def narrow(x: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """float32 to `dtype`, to nearest and ties to even; the interpreter's own cast to bfloat16 truncates."""
    if INTERP and dtype == tl.bfloat16:
        u = x.to(tl.uint32, bitcast=True)
        u = (u + 0x7FFF + ((u >> 16) & 1)) >> 16
        return u.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return x.to(dtype)
