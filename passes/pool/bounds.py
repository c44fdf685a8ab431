"""What no placement beats, whatever its stages: bounds that know nothing of patterns and of the programme.

Symbols: nodes i, each holding k_i contiguous layers at the node's rate t_i(k_i); L layers; F tokens/s of the whole.
Links and the order of the layers are left out, which can only make the bounds weaker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hexdsl.passes.pool.kinds import Floats, Kind, table

STEPS = 60
"""Bisections and searches on the line: the interval shrinks below the last digit of a float."""


def compute_bound(kinds: Sequence[Kind], layers: int) -> float:
    """F <= sum_i max_k k t_i(k) / L: each token needs L layers, and a node does k t_i(k) of them in a second."""
    rates = table(kinds, layers)
    if not rates.size:
        return 0.0
    lengths = np.arange(1, rates.shape[1] + 1)
    return float(_counts(kinds) @ (rates * lengths).max(axis=1)) / layers


def coverage_bound(kinds: Sequence[Kind], layers: int) -> float:
    """F <= max { sum_i k_i t_i(k_i) : sum_i k_i >= L } / L, a knapsack by dynamic programming over the layers.

    0 where all nodes together do not hold the model.
    """
    rates = table(kinds, layers)
    best = np.full(layers + 1, -np.inf)
    best[0] = 0.0
    for t, kind in enumerate(kinds):
        for _ in range(kind.count):
            best = _with_node(best, rates[t])
    return max(0.0, float(best[layers])) / layers


def _with_node(best: Floats, rates: Floats) -> Floats:
    """The best work by layers covered (at most all of them), after one more node."""
    found, top = best.copy(), len(best) - 1
    for length, rate in enumerate(rates, 1):
        if rate > 0:
            work = best + length * rate
            np.maximum(found[length:], work[: top + 1 - length], out=found[length:])
            found[top] = max(found[top], work[max(0, top + 1 - length) :].max())
    return found


def flow_bound(kinds: Sequence[Kind], layers: int, depth: float | None = None) -> float:
    """The largest F that the layers' demand allows; never above the two bounds before.

    With x_i = f_i / F the share of the flow that node i sees, 0 <= x_i <= min(1, t_i(k_i) / F), every layer needs
        sum_i k_i x_i >= L,                   and with at most `depth` nodes on a path (on average)  sum_i x_i <= depth.
    Without a depth the left side is largest at x_i = min(1, t_i / F).  With one, the maximum is bounded by
    Lagrange's dual min over m >= 0 of  m depth + sum_i max_k (k - m)+ min(1, t_i(k) / F).  Both fall as F grows.
    """
    rates, counts = table(kinds, layers), _counts(kinds)
    if not rates.size:
        return 0.0
    lengths = np.arange(1, rates.shape[1] + 1, dtype=np.float64)

    def carried(flow: float) -> float:
        shares = np.minimum(1.0, rates / flow)
        if depth is None:
            return float(counts @ (lengths * shares).max(axis=1))
        return _least(lambda m: m * depth + float(counts @ (np.maximum(lengths - m, 0) * shares).max(axis=1)), lengths)

    return _largest(lambda flow: carried(flow) >= layers * (1 - 1e-12), compute_bound(kinds, layers))


def _largest(holds: Callable[[float], bool], top: float) -> float:
    """The largest number up to `top` where a falling condition holds, rounded up; 0 where it holds nowhere."""
    if top <= 0 or not holds(top * 1e-9):
        return 0.0
    if holds(top):
        return top
    low, high = top * 1e-9, top
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _least(function: Callable[[float], float], lengths: Floats) -> float:
    """The minimum of a convex function between 0 and the longest length; any value it takes is a bound."""
    low, high = 0.0, float(lengths[-1])
    for _ in range(STEPS):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if function(a) <= function(b) else (a, high)
    return function((low + high) / 2)


def _counts(kinds: Sequence[Kind]) -> Floats:
    return np.array([k.count for k in kinds], dtype=np.float64)
