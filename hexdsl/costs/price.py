"""Prices."""

from __future__ import annotations

from collections.abc import Mapping


def usd_per_hour(counts: Mapping[str, int], price: Mapping[str, float]) -> float:
    """Dollars an hour of so many GPUs of each kind.  Raises KeyError where a kind has no price."""
    return sum(counts[kind] * price[kind] for kind in sorted(counts))
