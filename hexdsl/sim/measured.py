"""Step times from measured operator tables: one layer's operators by tokens, attention by batch shape.

The tables are those that a profiler takes on the GPU itself (times in microseconds, for one layer): `dense.csv`,
`per_sequence.csv`, `attention.csv` and, where batches of unequal histories were measured, `skew_fit.csv`.
Interpolation is linear on every axis, because reading and computing are; beyond a grid the last two points go on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hexdsl.sim.steps import Batch

Curve = tuple[list[int], list[float]]
"""Points of a function, ascending."""


def at(curve: Curve, x: float) -> float:
    """Linear interpolation; constant below the first point, the last slope beyond the last."""
    xs, ys = curve
    if len(xs) == 1 or x <= xs[0]:
        return ys[0]
    i = min(bisect_right(xs, x), len(xs) - 1)
    x0, y0 = xs[i - 1], ys[i - 1]
    return y0 + (x - x0) * (ys[i] - y0) / (xs[i] - x0)


class Attention:
    """Seconds of one attention call: prefill chunk over a history, with decodes that have a mean history.

    Combinations that were not measured are taken as the sum of the chunk alone and the decodes alone.
    """

    def __init__(self, rows: Mapping[tuple[int, int, int, int], float]) -> None:
        grid: dict[tuple[int, int], dict[int, dict[int, float]]] = {}
        for (chunk, history, decodes, context), seconds in sorted(rows.items()):
            grid.setdefault((chunk, decodes), {}).setdefault(history, {})[context] = seconds
        self._cells = {pair: _cell(cell) for pair, cell in grid.items()}
        self._chunks = sorted({0, *(chunk for chunk, _ in grid)})
        self._decodes = sorted({0, *(decodes for _, decodes in grid)})

    def seconds(self, chunk: float, history: float, decodes: int, context: float) -> float:
        """Bilinear between the measured (chunk, decodes), and between histories and contexts within each."""
        low_c, high_c, share_c = _bracket(self._chunks, chunk)
        low_d, high_d, share_d = _bracket(self._decodes, decodes)
        value = self._corner(low_c, low_d, history, context)
        if share_d:
            value += share_d * (self._corner(low_c, high_d, history, context) - value)
        if share_c:
            above = self._corner(high_c, low_d, history, context)
            if share_d:
                above += share_d * (self._corner(high_c, high_d, history, context) - above)
            value += share_c * (above - value)
        return value

    def _corner(self, chunk: int, decodes: int, history: float, context: float) -> float:
        cell = self._cells.get((chunk, decodes))
        if cell is None:
            if chunk == 0 or decodes == 0:
                return 0.0
            return self._corner(chunk, 0, history, 0) + self._corner(0, decodes, 0, context)
        histories, curves = cell
        low, high, share = _bracket(histories, history)
        value = at(curves[low], context)
        return value + share * (at(curves[high], context) - value) if share else value


def _cell(cell: Mapping[int, Mapping[int, float]]) -> tuple[list[int], dict[int, Curve]]:
    return list(cell), {history: (list(row), list(row.values())) for history, row in cell.items()}


def _bracket(points: Sequence[int], x: float) -> tuple[int, int, float]:
    """The points around x and where it lies between them."""
    if len(points) == 1 or x <= points[0]:
        return points[0], points[0], 0.0
    i = min(bisect_right(points, x), len(points) - 1)
    low, high = points[i - 1], points[i]
    return low, high, (x - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Skew:
    """What unequal histories cost: this share of the way from the mean history's time to the longest one's.

    `buckets` holds shares for pure decode steps by upper bounds of (decodes, skew rate, longest history); the skew rate
    is where the mean lies between the shortest and the longest.  `default` counts elsewhere.
    """

    default: float = 0.0
    counts: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    longest: tuple[float, ...] = ()
    buckets: Mapping[tuple[int, int, int], float] = field(default_factory=dict)

    def share(self, decodes: int, rate: float, longest: int, chunks: bool) -> float:
        """The share for a batch; `buckets` is keyed by positions in the bounds."""
        if chunks or not self.buckets:
            return self.default
        key = (_bin(self.counts, decodes), _bin(self.rates, rate), _bin(self.longest, longest))
        return self.buckets.get(key, self.default)


def _bin(bounds: Sequence[float], x: float) -> int:
    return next((i for i, bound in enumerate(bounds) if x <= bound), len(bounds))


@dataclass(frozen=True, slots=True)
class MeasuredSteps:
    """Step times of a model on one GPU or tensor-parallel group, from its tables (seconds).

    `dense` holds all layers' dense operators, embedding and final norm, by tokens; `per_sequence` head and sampler by
    scheduled sequences; `attention` is one layer's.  A step takes `step_s` besides, and `token_s` for each token.
    """

    layers: int
    dense: Curve
    per_sequence: Curve
    attention: Attention
    skew: Skew = Skew()
    step_s: float = 0.0
    token_s: float = 0.0
    stages: int = 1
    latency_s: tuple[float, ...] = (0.0,)

    def seconds(self, batch: Batch) -> tuple[float]:
        decodes, chunks = batch.decodes, batch.chunks
        tokens, history = merged(chunks) if chunks else (0, 0.0)
        attention = self._attention(batch, tokens, history)
        sequences = decodes + len(chunks)
        total = at(self.dense, decodes + tokens) + at(self.per_sequence, sequences) + self.layers * attention
        return (total + self.step_s + self.token_s * (decodes + tokens),)

    def _attention(self, batch: Batch, tokens: int, history: float) -> float:
        decodes = batch.decodes
        if decodes == 0:
            return self.attention.seconds(tokens, history, 0, 0)
        mean = batch.context / decodes
        time = self.attention.seconds(tokens, history, decodes, mean)
        spread = batch.longest - batch.shortest
        if decodes == 1 or spread == 0:
            return time
        rate = (mean - batch.shortest) / spread
        share = self.skew.share(decodes, rate, batch.longest, tokens > 0)
        if share == 0:
            return time
        longest = self.attention.seconds(tokens, history, decodes, batch.longest)
        return time + share * max(0.0, longest - time)


def merged(chunks: Sequence[tuple[int, int]]) -> tuple[int, float]:
    """One chunk with as much attention work as these: all their tokens, and the history that makes up for the rest.

    A chunk of c tokens over h of history attends to c (h + c/2) pairs.
    """
    tokens = sum(length for length, _ in chunks)
    pairs = sum(length * (history + length / 2) for length, history in chunks)
    return tokens, max(0.0, pairs / tokens - tokens / 2)
