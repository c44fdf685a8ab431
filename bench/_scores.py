"""Errors of predictions against measurements, by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Range = tuple[float, float, float]
"""Predicted value, low and high."""


@dataclass(frozen=True)
class Score:
    """Errors in percent; bias is the median signed error, positive where the model is pessimistic."""

    group: str
    metric: str
    n: int
    mape: float
    median_ape: float
    bias: float
    within_20: float
    in_range: float


def score(group: str, metric: str, measured: Sequence[float], predicted: Sequence[Range]) -> Score:
    truth = np.array(measured)
    value, low, high = np.array(predicted).T
    error = value / truth - 1
    size, inside = np.abs(error), (low <= truth) & (truth <= high)
    found = (size.mean(), np.median(size), np.median(error), (size <= 0.2).mean(), inside.mean())
    return Score(group, metric, len(truth), *(round(100 * float(x), 1) for x in found))


def show(title: str, found: Sequence[Score]) -> None:
    print(f"{title:60} {'':6} {'n':>4} {'MAPE':>6} {'median':>7} {'bias':>7} {'in 20%':>7} {'in range':>8}")
    for s in found:
        numbers = f"{s.mape:6.1f} {s.median_ape:7.1f} {s.bias:+7.1f} {s.within_20:7.1f} {s.in_range:8.1f}"
        print(f"{s.group:60} {s.metric:6} {s.n:4} {numbers}")
    print()
