"""How many layers each stage of an uneven pipeline gets, for many numbers of running requests at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CROSSING, BALANCE = 40, 24
"""Steps of the two bisections: the first decides the cycle to nine digits, the second among equally quick splits."""

EQUAL = 1e-9
"""Cycles that differ by less count as equally quick."""


@dataclass(frozen=True)
class Pace:
    """What stages cost, one row a number of running requests (K) and one column a stage (S).

    A stage of n layers is busy for `slope * n + fixed` seconds, holds up the next step for that or for `peak * n +
    hidden` (`hexdsl.costs.bursts`), and holds at most `most` layers.  A cycle takes the path (`extra` seconds for
    links, and all stages) or `rounds` times the longest hold-up, and at least `floor` seconds, which the links take.
    """

    slope: Floats
    fixed: Floats
    peak: Floats
    hidden: Floats
    most: Ints
    extra: Floats
    rounds: Floats
    floor: Floats

    def cycle(self, layers: Ints) -> Floats:
        """Seconds of a cycle with these layers, shape (K,)."""
        busy = self.slope * layers + self.fixed
        path, held = self.extra + busy.sum(axis=1), np.maximum(busy, self.peak * layers + self.hidden)
        busiest = self.rounds * held.max(axis=1)
        return np.asarray(np.maximum(np.maximum(path, busiest), self.floor))

    @staticmethod
    def joined(parts: Sequence[Pace]) -> Pace:
        """The rows of all parts, one after the other."""
        names = ("slope", "fixed", "peak", "hidden", "most", "extra", "rounds", "floor")
        return Pace(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))

    def reordered(self, order: Ints) -> Pace:
        """The same with each row's stages in another order."""
        names = ("slope", "fixed", "peak", "hidden", "most")
        return replace(self, **{n: np.take_along_axis(getattr(self, n), order, axis=1) for n in names})


def split_layers(layers: int, pace: Pace) -> Ints:
    """Layers per stage, shape (K, S), that minimise each row's cycle; of equal ones, its busiest stage's time.

    Sets: stages i.  Variables: n_i whole, 1 <= n_i <= most_i, sum of n_i = layers.  With t_i = slope_i n_i + fixed_i,
    and u_i = max(t_i, peak_i n_i + hidden_i), the objective is max(extra + sum of t_i, rounds * max of u_i, floor)
    (`hexdsl.costs.serving.Pipeline`).

    A cap T on the u_i bounds the layers of each stage, and the least sum of t_i fills stages in order of slope.  That
    sum falls as T grows while rounds * T rises, so that the best T is where they cross, or just below it; bisection
    finds it, and then the least T of the same cycle.  Every row must have room: 1 <= most_i, and the sum of most_i >=
    layers.
    """
    if pace.slope.shape[1] == 1:
        return np.full(pace.most.shape, layers)
    order = np.argsort(pace.slope, axis=1, kind="stable")
    found = np.empty_like(pace.most)
    np.put_along_axis(found, order, _Columns.of(layers, pace.reordered(order)).split().T.astype(np.int64), axis=1)
    return found


TOGETHER = 4096
"""Rows that are split at once: many more do not fit into the processor's cache."""


def split_all(layers: int, paces: Sequence[Pace]) -> tuple[Ints, ...]:
    """`split_layers` of each pace; those of as many stages go together, which is much quicker than one by one."""
    found: dict[int, Ints] = {}
    for some in _batches(paces):
        ends = np.cumsum([len(paces[k].slope) for k in some])
        split = split_layers(layers, Pace.joined([paces[k] for k in some]))
        found |= zip(some, np.split(split, ends[:-1]), strict=True)
    return tuple(found[i] for i in range(len(paces)))


def _batches(paces: Sequence[Pace]) -> Iterable[list[int]]:
    """The positions of paces of as many stages, with few rows or one pace at a time."""
    sizes: Counter[int] = Counter()
    found: dict[tuple[int, int], list[int]] = {}
    for i, pace in enumerate(paces):
        rows, stages = pace.slope.shape
        sizes[stages] += rows
        found.setdefault((stages, sizes[stages] // TOGETHER), []).append(i)
    return found.values()


@dataclass(frozen=True)
class _Columns:
    """The same with a row a stage, in order of slope: numpy adds up long rows much more quickly than short ones."""

    layers: int
    slope: Floats
    fixed: Floats
    peak: Floats
    hidden: Floats
    most: Floats
    extra: Floats
    rounds: Floats
    floor: Floats

    @staticmethod
    def of(layers: int, pace: Pace) -> _Columns:
        rows = (pace.slope, pace.fixed, pace.peak, pace.hidden, pace.most)
        slope, fixed, peak, hidden, most = (np.ascontiguousarray(a.T, dtype=np.float64) for a in rows)
        return _Columns(layers, slope, fixed, peak, hidden, most, pace.extra, pace.rounds, pace.floor)

    def split(self) -> Floats:
        """Layers by stage and case."""
        low = self.layers / (1 / self.peak).sum(axis=0) / 2
        top = self._held(np.full_like(self.slope, self.layers)).max(axis=0)
        below, above = self._narrow(low, top, CROSSING, lambda path, cap: self.rounds * cap >= self.extra + path)
        (n, fits), (m, _) = self._fill(below), self._fill(above)
        best = np.where(fits, np.minimum(self._cycle(n), self._cycle(m)), self._cycle(m)) * (1 + EQUAL)
        _, cap = self._narrow(low, top, BALANCE, lambda path, _: self.extra + path <= best)
        return self._fill(cap)[0]

    def _cycle(self, layers: Floats) -> Floats:
        path = self.extra + (self.slope * layers + self.fixed).sum(axis=0)
        busiest = self.rounds * self._held(layers).max(axis=0)
        return np.asarray(np.maximum(np.maximum(path, busiest), self.floor))

    def _held(self, layers: Floats) -> Floats:
        return np.maximum(self.slope * layers + self.fixed, self.peak * layers + self.hidden)

    def _fill(self, cap: Floats) -> tuple[Floats, Bools]:
        """One layer a stage, the rest to stages in order under a cap on their hold-up; and whether all fit."""
        top = cap * (1 + 1e-13)
        held = np.minimum((top - self.fixed) / self.slope, (top - self.hidden) / self.peak)
        rooms = np.minimum(np.floor(held), self.most)
        spare, rest = rooms - 1, self.layers - len(rooms)
        upto = np.cumsum(spare, axis=0)
        fits = (spare.min(axis=0) >= 0) & (upto[-1] >= rest)
        return 1 + np.minimum(np.maximum(rest - upto + spare, 0), spare), fits

    def _narrow(
        self, low: Floats, high: Floats, steps: int, good: Callable[[Floats, Floats], Bools]
    ) -> tuple[Floats, Floats]:
        """A range of caps whose upper end fits and is good (by sum of busy times and cap), its lower end not."""
        for _ in range(steps):
            middle = (low + high) / 2
            layers, fits = self._fill(middle)
            enough = fits & good((self.slope * layers + self.fixed).sum(axis=0), middle)
            high, low = np.where(enough, middle, high), np.where(enough, low, middle)
        return low, high
