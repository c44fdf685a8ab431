"""How many layers each stage of an uneven pipeline gets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def split_layers(
    layers: int, slope: Floats, fixed: Floats, most: Ints, extra: float, rounds: float
) -> tuple[Ints, float] | None:
    """Layers per stage that minimise the time of a cycle, exactly, and that time in seconds.

    Sets: stages i.  Variables: n_i whole, 1 <= n_i <= most_i, sum of n_i = layers.
    Stage i is busy for t_i = slope_i n_i + fixed_i.  Objective: max(extra + sum of t_i, rounds * max of t_i), the
    time that a token takes through the pipeline or the pace of its busiest stage (`hexdsl.costs.serving.Pipeline`).

    For a cap T on t_i, each stage may hold floor((T - fixed_i) / slope_i) layers, and the least sum fills stages in
    order of slope.  The objective is then max(extra + sum(T), rounds T), so that it is enough to try every T at which
    some stage gains a layer: at most stages * layers of them.  Returns None where the layers do not fit.
    """
    stages = len(slope)
    if layers < stages or np.any(most < 1) or most.sum() < layers:
        return None
    if stages == 1:
        time = float(slope[0] * layers + fixed[0])
        return np.array([layers]), max(extra + time, rounds * time)
    counts = np.arange(1, layers + 1)
    caps = np.unique(np.concatenate([slope[i] * counts[: most[i]] + fixed[i] for i in range(stages)]))
    rooms = np.floor((caps[:, None] * (1 + 1e-12) - fixed) / slope).astype(np.int64)
    rooms = np.minimum(rooms, most)
    fits = (rooms >= 1).all(axis=1) & (rooms.sum(axis=1) >= layers)
    filled = _fill(rooms[fits], layers, np.argsort(slope, kind="stable"))
    times = slope * filled + fixed
    cycle = np.maximum(extra + times.sum(axis=1), rounds * times.max(axis=1))
    best = int(np.argmin(cycle))
    return np.asarray(filled[best]), float(cycle[best])


def _fill(rooms: Ints, layers: int, order: Ints) -> Ints:
    """Each row: one layer a stage, the rest to stages in order until their room is used."""
    filled = np.ones_like(rooms)
    left = np.full(len(rooms), layers - rooms.shape[1])
    for i in order:
        more = np.minimum(rooms[:, i] - 1, left)
        filled[:, i] += more
        left -= more
    return filled
