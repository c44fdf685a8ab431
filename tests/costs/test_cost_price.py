"""Prices."""

from __future__ import annotations

import pytest

from hexdsl.costs.price import usd_per_hour


def test_price_of_a_mixed_set() -> None:
    assert usd_per_hour({"H100": 4, "A100": 2}, {"A100": 1.2, "H100": 2.4, "L4": 0.4}) == pytest.approx(12.0)


def test_a_kind_without_a_price_is_refused() -> None:
    with pytest.raises(KeyError):
        usd_per_hour({"H100": 1}, {})
