"""The points that a plan may be made of: every point, what it uses, and which are never worth taking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from hexdsl.ir.spec.rule import Metric, Rule, holds, metrics_in
from hexdsl.passes.serve.metrics import Latency
from hexdsl.passes.serve.points import Point, Pricer, usd_per_h, watts
from hexdsl.passes.serve.problem import Problem
from hexdsl.passes.serve.shapes import Shape, shapes

Signature = tuple[tuple[int, int], ...]
"""What a shape takes from the inventory: class and size of each segment, sorted."""


@dataclass(frozen=True)
class Candidate:
    """A point with what it uses and the latency metrics that rules or objectives name."""

    point: Point
    usd_per_h: float
    watts: float
    metrics: tuple[float, ...]

    @property
    def signature(self) -> Signature:
        return tuple(sorted((s.cls, s.size) for s in self.point.shape.segments))


@dataclass(frozen=True)
class Space:
    """All candidates of a problem.  `complete` says that no shape was left out."""

    problem: Problem
    pricer: Pricer
    named: tuple[Metric, ...]
    candidates: tuple[Candidate, ...]
    complete: bool

    def holds(self, rule: Rule, candidate: Candidate) -> bool:
        """Whether a candidate meets a rule over shapes or latencies; a rule over degrees holds for every stage."""
        values = dict(zip(self.named, candidate.metrics, strict=True))
        depth = len(candidate.point.shape.stages)
        degrees = sorted({tp for _, tp in candidate.point.shape.stages})
        return all(
            holds(rule.expr, lambda m, t=tp: values[m] if m in values else float({"tp": t, "pp": depth}[m.name]))  # type: ignore[misc]
            for tp in degrees
        )


def space_of(problem: Problem, named: Sequence[Metric]) -> Space:
    """Every candidate, with the latency metrics that are named."""
    found, complete = shapes(problem)
    pricer = Pricer(problem)
    made = [c for shape in found for c in _candidates(shape, problem, pricer, tuple(named))]
    return Space(problem, pricer, tuple(named), tuple(made), complete)


def _candidates(shape: Shape, problem: Problem, pricer: Pricer, named: tuple[Metric, ...]) -> list[Candidate]:
    points = list(pricer.points(shape))
    if not points:
        return []
    cost, power = usd_per_h(shape, problem), watts(shape, problem)
    metrics = latencies(points, problem, pricer, named)
    return [Candidate(p, cost, power, m) for p, m in zip(points, metrics, strict=True)]


def latencies(
    points: Sequence[Point], problem: Problem, pricer: Pricer, named: tuple[Metric, ...]
) -> list[tuple[float, ...]]:
    """The named latency metrics of one shape's points, priced together where they have the same layers."""
    if not named:
        return [()] * len(points)
    hops = points[0].shape.hops(problem)
    assert hops is not None
    found: list[tuple[float, ...]] = []
    for layers, group in groupby(points, key=lambda p: p.layers):
        members = list(group)
        rates = np.array([p.rate for p in members]) if problem.arrivals is not None else None
        batches = np.array([float(p.batch) for p in members])
        steps = np.array([p.tpot for p in members])
        latency = Latency(pricer.line(points[0].shape, layers, hops), batches, rates, problem, steps)
        found += zip(*(latency.value(m).tolist() for m in named), strict=True)
    return found


def latency_metrics(rules: Sequence[Rule], more: Sequence[Metric]) -> tuple[Metric, ...]:
    """The distinct metrics of these rules and the others given, in the order of their first mention."""
    return tuple(dict.fromkeys((*(m for r in rules for m in metrics_in(r.expr)), *more)))


def worthwhile(candidates: Sequence[Candidate], flags: Sequence[tuple[bool, ...]]) -> tuple[int, ...]:
    """Indices of the candidates that no other of the same use of machines and the same flags beats in everything.

    A candidate beats another with at least its rate and at most its latencies; of equals the first is kept.  A plan
    never gets worse by replacing the beaten one, so that leaving it out loses nothing.
    """
    groups: dict[tuple[Signature, tuple[bool, ...]], list[int]] = {}
    for i, candidate in enumerate(candidates):
        groups.setdefault((candidate.signature, flags[i]), []).append(i)
    kept = (i for members in groups.values() for i in _front(members, candidates))
    return tuple(sorted(kept))


def _front(members: list[int], candidates: Sequence[Candidate]) -> list[int]:
    rows = np.array([(-candidates[i].point.rate, *candidates[i].metrics) for i in members])
    order = np.lexsort(tuple(rows[:, k] for k in reversed(range(rows.shape[1]))))
    kept: list[int] = []
    for i in order:
        if not kept or not (rows[kept] <= rows[i]).all(axis=1).any():
            kept.append(int(i))
    return [members[i] for i in kept]


