"""Which kernel folders have cases to compile ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from hexdsl.kernels._support.ahead import Case

MODULES = ("hexdsl.kernels.sparse_attention.gate",)
"""Modules with a function `cases()`, each of which yields Cases."""


def cases() -> Iterator[Case]:
    """All cases of all folders."""
    for module in MODULES:
        yield from import_module(module).cases()
