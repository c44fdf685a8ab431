"""Refusing arguments that do not fit, by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def shape_of(name: str, tensor: Tensor | None, wanted: Sequence[int | None]) -> None:
    """Raises ValueError if the tensor has another shape; None in `wanted` is any size, a tensor of None passes."""
    if tensor is None:
        return
    if tensor.dim() != len(wanted) or any(w not in (None, s) for s, w in zip(tensor.shape, wanted, strict=True)):
        shown = ", ".join("any" if w is None else str(w) for w in wanted)
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}, but ({shown}) is needed")


def type_of(name: str, tensor: Tensor | None, *wanted: torch.dtype) -> None:
    """Raises ValueError if the tensor has none of these types; a tensor of None passes."""
    if tensor is not None and tensor.dtype not in wanted:
        shown = " or ".join(str(w).removeprefix("torch.") for w in wanted)
        raise ValueError(f"{name}: {str(tensor.dtype).removeprefix('torch.')}, but {shown} is needed")


def same_device(**tensors: Tensor | None) -> None:
    """Raises ValueError unless all tensors are on one device."""
    devices = {name: tensor.device for name, tensor in tensors.items() if tensor is not None}
    if len(set(devices.values())) > 1:
        raise ValueError("devices differ: " + ", ".join(f"{name} on {device}" for name, device in devices.items()))
