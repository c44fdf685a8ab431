"""Linear layers with 16-bit activations and quantised weights: the public operation."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hexdsl.kernels.mixed_precision._device import architecture, on_triton
from hexdsl.kernels.mixed_precision.checks import same_device, shape_of
from hexdsl.kernels.mixed_precision.configs import LATE, LINEAR, Tile, splits_for, tile_for
from hexdsl.kernels.mixed_precision.formats import FORMATS, MXFP4, PLANE, ROWS, PackedWeight
from hexdsl.kernels.mixed_precision.reference import linear_reference
from hexdsl.kernels.mixed_precision.weight_only_kernel import reduce_kernel, weight_only_kernel

REDUCE_BLOCK = 1024


def weight_only_linear(x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
    """x [..., K] (float16 or bfloat16) times a packed weight [N, K], plus bias [N]: [..., N] in x's dtype.

    The kernel's products are exact in the weights' codes, scales are applied in x's dtype, and sums are float32, in
    an order that depends on shapes only.  On a CPU the reference runs, which also takes float32 and float64.  Raises
    ValueError where a shape, dtype or device does not fit.
    """
    if x.shape[-1:] != (weight.k,):
        raise ValueError(f"x: shape {tuple(x.shape)}, but the weight has {weight.k} inputs")
    rows = x.reshape(-1, weight.k)
    if weight.order is not None:
        rows = rows.index_select(1, weight.order)
    parts = (weight.words, weight.scales, weight.zeros, bias, weight.format.name, weight.n, weight.group)
    out: Tensor = weight_only_op(rows, *parts)
    return out.view(*x.shape[:-1], weight.n)


@torch.library.custom_op("hexc::weight_only_linear", mutates_args=())
def weight_only_op(
    x: Tensor, words: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None, kind: str, n: int, group: int
) -> Tensor:
    """`weight_only_linear` of x [M, K] and the parts of a PackedWeight without order."""
    if kind not in FORMATS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(FORMATS)}")
    weight = PackedWeight(FORMATS[kind], x.dtype, n, x.shape[1], group, words, scales, zeros, None)
    _check(x, weight, bias)
    return launch_weight_only(x, weight, bias) if on_triton(x) else linear_reference(x, weight, bias)


@weight_only_op.register_fake
def _(
    x: Tensor, words: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None, kind: str, n: int, group: int
) -> Tensor:
    return x.new_empty(x.shape[0], n)


def _check(x: Tensor, weight: PackedWeight, bias: Tensor | None) -> None:
    kind, blocks = weight.format, -(-weight.n // ROWS)
    tiles = -(-weight.k // kind.tile)
    shape_of("x", x, (None, None))
    shape_of("words", weight.words, (blocks, tiles, ROWS, PLANE))
    groups = -(-tiles * kind.tile // (2 * PLANE if kind is MXFP4 else weight.group)) if weight.group else 1
    shape_of("scales", weight.scales, (groups, blocks * ROWS))
    shape_of("zeros", weight.zeros, (groups, blocks * ROWS))
    shape_of("bias", bias, (weight.n,))
    same_device(x=x, words=weight.words, scales=weight.scales, zeros=weight.zeros, bias=bias)
    if not all(t is None or t.is_contiguous() for t in (weight.words, weight.scales, weight.zeros)):
        raise ValueError("words, scales, zeros: they must be contiguous, as `pack` makes them")
    if weight.words.dtype != torch.int16 or (weight.zeros is not None and weight.zeros.dtype != torch.int16):
        raise ValueError("words, zeros: int16 is needed, as `pack` makes them")


def launch_weight_only(x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
    """The kernel on x [M, K]; in parts of K, and a sum over them, where there are few outputs."""
    kind = weight.format
    if x.dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(f"x: {x.dtype} is not supported by the kernel; float16 and bfloat16 are")
    if kind is not MXFP4 and weight.scales.dtype != x.dtype:
        raise ValueError(f"x: {x.dtype}, but the weight is packed for {weight.scales.dtype}")
    m, tiles, arch = x.shape[0], weight.words.shape[1], architecture(x)
    out = x.new_empty(m, weight.n)
    if m == 0 or weight.n == 0:
        return out
    tile = tile_for(LATE if kind is MXFP4 and x.dtype == torch.float16 else LINEAR, arch, m)
    blocks = triton.cdiv(m, tile.rows) * triton.cdiv(weight.n, tile.columns)
    splits = splits_for(blocks, tiles, arch)
    if splits == 1:
        return _products(x, weight, bias, out[None], tile)[0]
    partial = _products(x, weight, None, x.new_empty(splits, m, weight.n, dtype=torch.float32), tile)
    return sum_splits(partial, bias, out)


def _products(x: Tensor, weight: PackedWeight, bias: Tensor | None, out: Tensor, tile: Tile) -> Tensor:
    """One product for each part of K: out [splits, M, N]."""
    x, kind = x.contiguous(), weight.format
    splits, m, n = out.shape
    tiles = weight.words.shape[1]
    grid = (triton.cdiv(m, tile.rows), triton.cdiv(n, tile.columns), splits)
    weight_only_kernel[grid](
        x, weight.words, weight.scales, weight.zeros, bias, out, m, n, weight.k, tiles, triton.cdiv(tiles, splits),
        x.stride(0), weight.scales.stride(0), out.stride(0), out.stride(1),
        FORMAT=kind.name, BITS=kind.bits, GROUP=weight.group, HAS_ZERO=weight.zeros is not None,
        HAS_BIAS=bias is not None, ROWS=ROWS, PLANE=PLANE, BM=tile.rows, BN=tile.columns,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


def sum_splits(partial: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """out [M, N] = the sum of partial [splits, M, N], in order, plus bias."""
    splits, m, n = partial.shape
    reduce_kernel[(triton.cdiv(m * n, REDUCE_BLOCK),)](
        partial, bias, out, m, n, partial.stride(0), SPLITS=splits, HAS_BIAS=bias is not None, BLOCK=REDUCE_BLOCK
    )
    return out
