"""Links kernels of `hexdsl.kernels` into a rank's part of a model.

The table is empty in this version: a plan that names a kernel is refused instead of silently run without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import nn

from hexdsl.runtime.config import RuntimeFault

Model = TypeVar("Model", bound=nn.Module)
Op = Callable[[nn.Module], None]
"""Puts one kernel into a model, in place."""

KERNELS: Mapping[str, Op] = {}


def link(model: Model, plan_kernels: Sequence[str], table: Mapping[str, Op] = KERNELS) -> Model:
    """The model with the plan's kernels in place.  Raises `RuntimeFault` for a name that is not in the table."""
    for name in plan_kernels:
        if name not in table:
            known = ", ".join(sorted(table)) or "none in this version"
            raise RuntimeFault(f"unknown kernel `{name}`; kernels that can be linked: {known}")
        table[name](model)
    return model
