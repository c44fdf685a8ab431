"""Errors of predictions against measurements, by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Range = tuple[float, float, float]
"""Predicted value, low and high."""

NO_RANGE = (float("nan"), float("nan"))
"""Low and high of what is predicted without a range."""


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
    in_range: float | None


def score(group: str, metric: str, measured: Sequence[float], predicted: Sequence[Range]) -> Score:
    truth = np.array(measured)
    value, low, high = np.array(predicted).T
    error = value / truth - 1
    size, inside = np.abs(error), (low <= truth) & (truth <= high)
    found = (size.mean(), np.median(size), np.median(error), (size <= 0.2).mean(), inside.mean())
    mape, median, bias, within, ranged = (round(100 * float(x), 1) for x in found)
    return Score(group, metric, len(truth), mape, median, bias, within, None if np.isnan(low).all() else ranged)


def show(title: str, found: Sequence[Score]) -> None:
    wide = max(50, len(title), *(len(s.group) for s in found))
    head = f"{title:{wide}} {'':8} {'n':>4} {'MAPE':>6} {'median':>7} {'bias':>7} {'in 20%':>7} {'in range':>8}"
    print(head)
    for s in found:
        numbers = f"{s.mape:6.1f} {s.median_ape:7.1f} {s.bias:+7.1f} {s.within_20:7.1f}"
        ranged = f"{'-' if s.in_range is None else s.in_range:>8}"
        print(f"{s.group:{wide}} {s.metric:8} {s.n:4} {numbers} {ranged}")
    print()
