"""Packing into the kernels' layout and back.

Weights are cut into tiles of 64 outputs, each contiguous, so that a thread block reads one unbroken run of memory.
Inside a tile, a row is 32 words of 16 bits; bits `[b * p, b * p + b)` of word j hold input `32 * p + j` of the tile:
nibble planes.  A plane is thus a shift and a mask away from being the left operand of a tensor-core product, in the
order in which the activations lie in memory, with no shuffle and no trip through shared memory.  It is the Triton
form of the "hardware-aware packing" of TurboMind (arXiv 2508.15601), which stores the register image of the operand.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from hexdsl.kernels.mixed_precision.formats import MXFP4, PLANE, ROWS, Codes, Format, PackedWeight

DTYPES = (torch.float16, torch.bfloat16)


def pack_codes(codes: Tensor, kind: Format) -> Tensor:
    """uint8 codes [N, K] to words [ceil(N / 64), ceil(K / tile), 64, 32]; what is padded holds zeros."""
    n, k = codes.shape
    padded = pad(codes, (0, -k % kind.tile, 0, -n % ROWS)).to(torch.int32)
    tiles = padded.view(padded.shape[0] // ROWS, ROWS, -1, kind.planes, PLANE).transpose(1, 2)
    shifts = kind.bits * torch.arange(kind.planes, dtype=torch.int32, device=codes.device)
    return (tiles << shifts[:, None]).sum(-2, dtype=torch.int32).to(torch.int16).contiguous()


def unpack_codes(words: Tensor, n: int, k: int, kind: Format) -> Tensor:
    """The inverse of `pack_codes`: uint8 [n, k]."""
    shifts = kind.bits * torch.arange(kind.planes, dtype=torch.int32, device=words.device)
    planes = (words.to(torch.int32)[..., None, :] >> shifts[:, None]) & ((1 << kind.bits) - 1)
    blocks, tiles = words.shape[:2]
    return planes.transpose(1, 2).reshape(blocks * ROWS, tiles * kind.tile)[:n, :k].to(torch.uint8).contiguous()


def packed_group(kind: Format, group: int, k: int) -> int:
    """The group as kernels count it: 0 for one scale per output.  Raises ValueError where groups cut a plane."""
    if kind is MXFP4:
        return _mxfp4_group(group)
    if group >= k:
        return 0
    if group % PLANE or (group % kind.tile and kind.tile % group):
        raise ValueError(
            f"group: {group} is not supported for {kind.name}; 32, 64, multiples of {kind.tile}, and all inputs are"
        )
    return group


def _mxfp4_group(group: int) -> int:
    if group != PLANE:
        raise ValueError(f"group: mxfp4 has groups of {PLANE}, not {group}")
    return group


def pack(weight: Codes, dtype: torch.dtype) -> PackedWeight:
    """Packs for activations of `dtype` (float16 or bfloat16); floating-point scales are rounded to it.

    Codes and zero points survive exactly, and so do scales that `dtype` can hold.  Raises ValueError for another
    dtype, for groups that cut a plane of 32 inputs, for codes that are not numbers, and for scales that overflow.
    """
    kind = weight.format
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype} is not supported; weights are packed for float16 or bfloat16 activations")
    n, k = weight.codes.shape
    group = packed_group(kind, weight.group, k)
    _check(weight)
    scales = weight.scales if kind is MXFP4 else _narrow(weight.scales, dtype)
    scales = _by_group(scales, group, kind, k)
    return PackedWeight(
        format=kind,
        dtype=dtype,
        n=n,
        k=k,
        group=group,
        words=pack_codes(weight.codes, kind),
        scales=_pairs(scales) if kind is MXFP4 else scales,
        zeros=None if weight.zeros is None else _by_group(weight.zeros, group, kind, k).to(torch.int16),
        order=weight.order,
    )


def unpack(weight: PackedWeight) -> Codes:
    """The inverse of `pack`."""
    groups = -(-weight.k // weight.group) if weight.group else 1
    zeros = weight.zeros
    scales = _singles(weight.scales) if weight.format is MXFP4 else weight.scales
    return Codes(
        format=weight.format,
        codes=unpack_codes(weight.words, weight.n, weight.k, weight.format),
        scales=scales[:groups, : weight.n].T.contiguous(),
        zeros=None if zeros is None else zeros[:groups, : weight.n].T.to(torch.uint8).contiguous(),
        group=weight.group or weight.k,
        order=weight.order,
    )


def _by_group(values: Tensor, group: int, kind: Format, k: int) -> Tensor:
    """[N, G] to [G, N], padded with zeros to whole tiles."""
    n, groups = values.shape
    rows = -(-(-(-k // kind.tile) * kind.tile) // group) if group else 1
    return pad(values.T, (0, -n % ROWS, 0, rows - groups)).contiguous()


def _pairs(exponents: Tensor) -> Tensor:
    """Exponents uint8 [2 P, N] to words int16 [P, N], the earlier group in the low byte.

    Words, because one byte among a product's inputs makes Triton choose a register order for the activations that
    `ldmatrix` cannot fill; zero points are int16 for the same reason.
    """
    wide = exponents.to(torch.int32).reshape(-1, 2, exponents.shape[1])
    return (wide[:, 0] | (wide[:, 1] << 8)).to(torch.int16)


def _singles(words: Tensor) -> Tensor:
    """The inverse of `_pairs`."""
    wide = words.to(torch.int32) & 0xFFFF
    return torch.stack((wide & 0xFF, wide >> 8), 1).flatten(0, 1).to(torch.uint8)


def _narrow(scales: Tensor, dtype: torch.dtype) -> Tensor:
    narrow = scales.to(dtype)
    if not bool(torch.isfinite(narrow).all()):
        raise ValueError(f"scales: a scale is not a finite number in {dtype}")
    return narrow


def _check(weight: Codes) -> None:
    """Refuses codes that stand for no number, or for none in this format."""
    kind = weight.format
    if kind.bits < 8 and bool((weight.codes >= 1 << kind.bits).any()):
        raise ValueError(f"codes: a code needs more than {kind.bits} bits")
    if kind.name == "fp8" and bool(((weight.codes & 0x7F) == 0x7F).any()):
        raise ValueError("codes: an fp8 weight is not a number")
    if kind is MXFP4 and (weight.scales.dtype != torch.uint8 or bool((weight.scales == 0xFF).any())):
        raise ValueError("scales: mxfp4 needs uint8 exponents below 255 (255 is not a number)")
