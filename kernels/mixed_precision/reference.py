"""Plain torch statements of what the products compute: the kernels' reference, and what runs on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from hexdsl.kernels.mixed_precision.formats import E2M1, MXFP4, Codes, Format, PackedWeight
from hexdsl.kernels.mixed_precision.layout import unpack


def decode(codes: Tensor, kind: Format) -> Tensor:
    """uint8 codes to the float64 numbers they stand for, before zero points and scales."""
    if kind.integer:
        return codes.double()
    if kind is MXFP4:
        table = torch.tensor([*E2M1, *(-v for v in E2M1)], dtype=torch.float64, device=codes.device)
        return table[codes.long()]
    return codes.view(torch.float8_e4m3fn).double()


def dequantise(weight: Codes) -> Tensor:
    """The matrix [N, K] in float64, its inputs in the order of the activations."""
    kind, k = weight.format, weight.codes.shape[1]
    scales = torch.exp2(weight.scales.double() - 127) if kind is MXFP4 else weight.scales.double()
    zeros = torch.full_like(scales, kind.middle) if weight.zeros is None else weight.zeros.double()
    spread = torch.arange(k, device=scales.device) // weight.group
    values = (decode(weight.codes, kind) - zeros[:, spread]) * scales[:, spread]
    if weight.order is None:
        return values
    dense = torch.empty_like(values)
    dense[:, weight.order] = values
    return dense


def working(dtype: torch.dtype) -> torch.dtype:
    """The type that a reference computes in: float64 for float64, float32 for all others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def linear_reference(x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
    """x [..., K] times the dequantised weight, plus bias [N]; in float64 if x is, else in float32."""
    wide = working(x.dtype)
    out = x.to(wide) @ dequantise(unpack(weight)).to(wide).T
    return (out if bias is None else out + bias.to(wide)).to(x.dtype)


def scaled_reference(
    x: Tensor, x_scale: Tensor, weight: Tensor, w_scale: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """(x * x_scale) @ (weight * w_scale).T + bias for 8-bit x [M, K] and weight [N, K], computed in float64."""
    out = (x.double() * x_scale.double()[:, None]) @ (weight.double() * w_scale.double()[:, None]).T
    return (out if bias is None else out + bias.double()).to(dtype)
