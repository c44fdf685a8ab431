"""Rounding matrices to the weight formats: round to nearest, no calibration data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from hexdsl.kernels.mixed_precision.formats import FORMATS, FP8, INT8, MXFP4, PLANE, Codes, Format

FP8_MAX = 448.0


def quantise_weight(
    weight: Tensor, kind: str, group: int = 128, symmetric: bool = True, scales: torch.dtype = torch.float16
) -> Codes:
    """Rounds `weight` [N, K] to the format `kind`, in groups of `group` neighbouring inputs.

    `symmetric` drops the zero points of the integer formats.  Codes are made for scales already rounded to `scales`,
    so that storing them loses nothing; mxfp4 has powers of two and ignores it.  A group of zeros gets scale 0.
    Raises ValueError for an unknown format, a weight that is no matrix, or one that is not finite.
    """
    if kind not in FORMATS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(FORMATS)}")
    if weight.dim() != 2 or not bool(torch.isfinite(weight).all()):
        raise ValueError(f"weight: a matrix of finite numbers is needed, not shape {tuple(weight.shape)}")
    fmt = FORMATS[kind]
    if fmt is MXFP4:
        return _mxfp4(weight)
    group = min(group, weight.shape[1])
    return _integer(weight, fmt, group, symmetric, scales) if fmt.integer else _fp8(weight, group, scales)


def _groups(weight: Tensor, group: int) -> Tensor:
    """[N, K] to float32 [N, G, group]; the last group is filled up with zeros."""
    return pad(weight.float(), (0, -weight.shape[1] % group)).reshape(weight.shape[0], -1, group)


def _over(values: Tensor, scale: Tensor) -> Tensor:
    """values / scale, 0 where the scale is 0."""
    return torch.where(scale > 0, values / scale.clamp_min(torch.finfo(torch.float32).tiny), 0.0)


def _integer(weight: Tensor, kind: Format, group: int, symmetric: bool, scales: torch.dtype) -> Codes:
    w, top = _groups(weight, group), (1 << kind.bits) - 1
    high, low = w.amax(-1, keepdim=True).clamp_min(0), w.amin(-1, keepdim=True).clamp_max(0)
    step = torch.maximum(high, -low) / (kind.middle - 1) if symmetric else (high - low) / top
    step = step.to(scales).float()
    zero = torch.full_like(step, kind.middle) if symmetric else _over(-low, step).round().clamp(0, top)
    codes = (_over(w, step).round() + zero).clamp(0, top).to(torch.uint8)
    return Codes(
        format=kind,
        codes=_columns(codes, weight),
        scales=step.squeeze(-1).to(scales),
        zeros=None if symmetric else zero.squeeze(-1).to(torch.uint8),
        group=group,
    )


def _fp8(weight: Tensor, group: int, scales: torch.dtype) -> Codes:
    w = _groups(weight, group)
    step = (w.abs().amax(-1, keepdim=True) / FP8_MAX).to(scales).float()
    codes = _over(w, step).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn).view(torch.uint8)
    return Codes(FP8, _columns(codes, weight), step.squeeze(-1).to(scales), None, group)


def _mxfp4(weight: Tensor) -> Codes:
    """The shared exponent is that of the largest magnitude less 2, e2m1's own (OCP specification, section 6.3)."""
    w = _groups(weight, PLANE)
    largest = w.abs().amax(-1, keepdim=True)
    exponent = torch.where(largest > 0, torch.frexp(largest).exponent - 3, 0).clamp(-127, 127)
    magnitude = e2m1_code(torch.ldexp(w.abs().double(), -exponent))
    codes = magnitude | (torch.signbit(w).to(torch.uint8) << 3)
    return Codes(MXFP4, _columns(codes, weight), (exponent.squeeze(-1) + 127).to(torch.uint8), None, PLANE)


def e2m1_code(magnitude: Tensor) -> Tensor:
    """The nearest e2m1 code of magnitudes, ties to the even code, 6 above the range."""
    edges = ((0.25, False), (0.75, True), (1.25, False), (1.75, True), (2.5, False), (3.5, True), (5.0, False))
    steps = [(magnitude >= edge) if included else (magnitude > edge) for edge, included in edges]
    return torch.stack(steps).sum(0, dtype=torch.uint8)


def _columns(codes: Tensor, weight: Tensor) -> Tensor:
    return codes.flatten(1)[:, : weight.shape[1]].contiguous()


def quantise_rows(x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Rounds each row of `x` [M, K] to int8 or fp8: codes [M, K] (int8 or float8_e4m3fn) and float32 scales [M].

    A row of zeros gets scale 0.  Raises ValueError for another format.
    """
    if kind not in (INT8.name, FP8.name):
        raise ValueError(f"kind: {kind!r} is not int8 or fp8")
    values, top = x.float(), 127.0 if kind == INT8.name else FP8_MAX
    scale = values.abs().amax(-1, keepdim=True) / top
    codes = _over(values, scale).clamp(-top, top)
    codes = codes.round().to(torch.int8) if kind == INT8.name else codes.to(torch.float8_e4m3fn)
    return codes, scale.squeeze(-1)
