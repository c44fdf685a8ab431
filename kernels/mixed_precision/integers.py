"""Unpacking what checkpoints store in 32-bit words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def unpack_int32(packed: Tensor, bits: int, dim: int, order: Sequence[int] | None = None) -> Tensor:
    """Codes (uint8) of the 32-bit words of a matrix, spread along `dim`, the lowest bits first.

    With `order`, the i-th field of a word holds code `order[i]` of its run.  Raises ValueError for other than int32.
    """
    if packed.dtype != torch.int32 or packed.dim() != 2:
        raise ValueError(f"packed: a matrix of int32 is needed, not {packed.dtype} of shape {tuple(packed.shape)}")
    count = 32 // bits
    shifts = bits * torch.arange(count, dtype=torch.int32, device=packed.device)
    fields = (packed.movedim(dim, -1).unsqueeze(-1) >> shifts) & ((1 << bits) - 1)
    if order is not None:
        fields = fields[..., torch.argsort(torch.tensor(order, device=packed.device))]
    return fields.flatten(1).movedim(-1, dim).to(torch.uint8).contiguous()


def sort_groups(group_of: Tensor, group: int) -> Tensor:
    """The order [K] of inputs that makes the groups of an act-order checkpoint neighbours.

    `group_of` [K] names each input's group.  Raises ValueError where groups are not full (the last one may be).
    """
    order = torch.argsort(group_of, stable=True)
    wanted = torch.arange(len(group_of), device=group_of.device) // group
    if not torch.equal(group_of[order].long(), wanted):
        raise ValueError(f"g_idx: the groups do not have {group} inputs each, numbered from 0")
    return order


def reorder(codes: Tensor, group_of: Tensor | None, group: int) -> tuple[Tensor, Tensor | None]:
    """Codes [N, K] with their groups side by side, and the order that did it; None where they already were."""
    if group_of is None:
        return codes, None
    if group_of.shape != (codes.shape[1],):
        raise ValueError(f"g_idx: shape {tuple(group_of.shape)}, but there are {codes.shape[1]} inputs")
    order = sort_groups(group_of, group)
    if torch.equal(order, torch.arange(len(order), device=order.device)):
        return codes, None
    return codes[:, order].contiguous(), order
