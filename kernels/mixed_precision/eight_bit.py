"""Linear layers in which activations and weights have 8 bits: the public operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from hexdsl.kernels.mixed_precision._device import architecture, on_triton
from hexdsl.kernels.mixed_precision.checks import same_device, shape_of, type_of
from hexdsl.kernels.mixed_precision.configs import EIGHT_BIT, FP8_TILES, Tile, splits_for, tile_for
from hexdsl.kernels.mixed_precision.eight_bit_kernel import eight_bit_kernel, quantise_rows_kernel
from hexdsl.kernels.mixed_precision.formats import FP8, INT8, Codes
from hexdsl.kernels.mixed_precision.linear import sum_splits
from hexdsl.kernels.mixed_precision.quantise import quantise_rows
from hexdsl.kernels.mixed_precision.reference import scaled_reference

BLOCK_K = 128
ROW_BLOCK = 2048
STORED = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
FP8_SINCE = 89
"""The first architecture whose tensor cores take e4m3 (Ada; sm_80 has none)."""


@dataclass(frozen=True, slots=True)
class EightBitWeight:
    """A weight [N, K], `codes` int8 or float8_e4m3fn, with one float32 scale for each output."""

    codes: Tensor
    scales: Tensor


def eight_bit_weight(weight: Codes) -> EightBitWeight:
    """A quantised matrix as 8-bit products take it.

    Raises ValueError for another format than int8 and fp8, for zero points, and for groups of inputs.
    """
    if weight.format not in (INT8, FP8) or weight.zeros is not None or weight.scales.shape[1] != 1:
        raise ValueError(
            f"weight: 8-bit products need int8 or fp8 with one scale for each output and no zero points, not "
            f"{weight.format.name} in groups of {weight.group}{' with zero points' if weight.zeros is not None else ''}"
        )
    if weight.format is FP8:
        return EightBitWeight(weight.codes.view(torch.float8_e4m3fn), weight.scales[:, 0].float())
    signed = (weight.codes.to(torch.int16) - INT8.middle).to(torch.int8)
    return EightBitWeight(signed, weight.scales[:, 0].float())


def eight_bit_linear(x: Tensor, weight: EightBitWeight, bias: Tensor | None = None) -> Tensor:
    """x [..., K], each row rounded to the weight's format, times the weight [N, K], plus bias: [..., N] in x's dtype.

    Integer products are exact.  Raises ValueError where a shape, dtype or device does not fit, and for fp8 on a GPU
    older than sm_89.
    """
    k = weight.codes.shape[1]
    if x.shape[-1:] != (k,):
        raise ValueError(f"x: shape {tuple(x.shape)}, but the weight has {k} inputs")
    kind = "int8" if weight.codes.dtype == torch.int8 else "fp8"
    codes, scales = quantise_rows_op(x.reshape(-1, k), kind)
    out: Tensor = eight_bit_op(codes, scales, weight.codes, weight.scales, bias, x.dtype)
    return out.view(*x.shape[:-1], weight.codes.shape[0])


@torch.library.custom_op("hexc::quantise_rows", mutates_args=())
def quantise_rows_op(x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Each row of x [M, K] to int8 or fp8: codes [M, K] and float32 scales [M], largest magnitude / 127 or / 448."""
    shape_of("x", x, (None, None))
    if kind not in STORED:
        raise ValueError(f"kind: {kind!r} is not int8 or fp8")
    return launch_quantise_rows(x, kind) if on_triton(x) else quantise_rows(x, kind)


@quantise_rows_op.register_fake
def _(x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=STORED[kind]), x.new_empty(x.shape[0], dtype=torch.float32)


def launch_quantise_rows(x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The kernel: one program a row."""
    type_of("x", x, torch.float16, torch.bfloat16, torch.float32)
    x = x.contiguous()
    codes = x.new_empty(x.shape, dtype=torch.uint8 if kind == "fp8" else torch.int8)
    scales = x.new_empty(x.shape[0], dtype=torch.float32)
    if len(x):
        quantise_rows_kernel[(len(x),)](
            x, codes, scales, x.shape[1], x.stride(0), codes.stride(0), FP8=kind == "fp8", BLOCK=ROW_BLOCK, num_warps=8
        )
    return codes.view(STORED[kind]), scales


@torch.library.custom_op("hexc::eight_bit_linear", mutates_args=())
def eight_bit_op(
    x: Tensor, x_scale: Tensor, weight: Tensor, w_scale: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """(x * x_scale) @ (weight * w_scale).T + bias in `dtype`, for codes x [M, K] and weight [N, K] of one type."""
    shape_of("x", x, (None, None))
    shape_of("x_scale", x_scale, (x.shape[0],))
    shape_of("weight", weight, (None, x.shape[1]))
    shape_of("w_scale", w_scale, (weight.shape[0],))
    shape_of("bias", bias, (weight.shape[0],))
    type_of("x", x, *STORED.values())
    type_of("weight", weight, x.dtype)
    same_device(x=x, x_scale=x_scale, weight=weight, w_scale=w_scale, bias=bias)
    if on_triton(x):
        return launch_eight_bit(x, x_scale, weight, w_scale, bias, dtype)
    return scaled_reference(x, x_scale, weight, w_scale, bias, dtype)


@eight_bit_op.register_fake
def _(x: Tensor, x_scale: Tensor, weight: Tensor, w_scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], dtype=dtype)


def launch_eight_bit(
    x: Tensor, x_scale: Tensor, weight: Tensor, w_scale: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """The kernel; in parts of K where there are few outputs."""
    (m, k), n, arch = x.shape, weight.shape[0], architecture(x)
    if x.dtype == torch.float8_e4m3fn and arch < FP8_SINCE:
        raise ValueError(
            f"x: fp8 products need sm_{FP8_SINCE} or newer, and this is sm_{arch}; fp8 weights also work alone"
        )
    out = x.new_empty(m, n, dtype=dtype)
    if m == 0 or n == 0:
        return out
    tile = tile_for(EIGHT_BIT if x.dtype == torch.int8 else FP8_TILES, arch, m)
    blocks = triton.cdiv(m, tile.rows) * triton.cdiv(n, tile.columns)
    splits = splits_for(blocks, triton.cdiv(k, BLOCK_K), arch)
    if splits == 1:
        return _products(x, x_scale, weight, w_scale, bias, out[None], tile)[0]
    partial = x.new_empty(splits, m, n, dtype=torch.float32)
    return sum_splits(_products(x, x_scale, weight, w_scale, None, partial, tile), bias, out)


def _products(
    x: Tensor, x_scale: Tensor, weight: Tensor, w_scale: Tensor, bias: Tensor | None, out: Tensor, tile: Tile
) -> Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    splits, m, n = out.shape
    span = triton.cdiv(triton.cdiv(x.shape[1], BLOCK_K), splits)
    eight_bit_kernel[(triton.cdiv(m, tile.rows), triton.cdiv(n, tile.columns), splits)](
        x, weight, x_scale, w_scale, bias, out, m, n, x.shape[1], span,
        x.stride(0), weight.stride(0), out.stride(0), out.stride(1),
        HAS_BIAS=bias is not None, BM=tile.rows, BN=tile.columns, BK=BLOCK_K,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out
