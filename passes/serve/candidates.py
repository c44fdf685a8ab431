"""The replicas that a plan may be made of: every operating point priced, and the few that are worth taking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hexdsl.costs.serving import Pipeline
from hexdsl.ir.engine import Part, limits_of
from hexdsl.ir.spec.rule import Metric, Rule, holds, metrics_in
from hexdsl.passes.serve.layers import Bools, Floats, Ints
from hexdsl.passes.serve.metrics import LATENCY_OF, IdealLine, Latency
from hexdsl.passes.serve.phases import prefill_points
from hexdsl.passes.serve.points import Points, Pricer
from hexdsl.passes.serve.problem import Problem, Role
from hexdsl.passes.serve.rules import SHAPES, Rules, phase_of, truth
from hexdsl.passes.serve.shapes import Shape, Signature, every_shape
from hexdsl.passes.serve.wide import promising_shapes

THIN, WIDE_THIN = 1.1, 2.0
"""Ratio of neighbouring numbers of running requests among which an objective over latencies chooses, on small
inventories and on large ones."""


@dataclass(frozen=True)
class Candidate:
    """A shape at one operating point, with the latencies that the objectives name."""

    shape: Shape
    layers: tuple[int, ...]
    batch: int
    rate: float
    kv_tokens: int
    step_tokens: int
    metrics: tuple[float, ...]
    role: Role = "both"


@dataclass(frozen=True)
class Options:
    """A shape's operating points with the named latencies, as arrays of K rows.

    `metrics` holds what each point comes to at its full rate, `ideal` what no split of the layers and no load undercuts
    that needs as many running requests; a column a metric.
    """

    points: Points
    metrics: Floats
    ideal: Floats

    def latencies(self, ideal: bool) -> Floats:
        return self.ideal if ideal else self.metrics


@dataclass(frozen=True)
class Choice:
    """Which operating points may be taken: a mask for each of a space's options, over real or ideal latencies."""

    masks: tuple[Bools, ...]
    ideal: bool = False

    def where(self, masks: Sequence[Bools]) -> Choice:
        """This, and these too."""
        return Choice(tuple(a & b for a, b in zip(self.masks, masks, strict=True)), self.ideal)

    @property
    def some(self) -> bool:
        return any(m.any() for m in self.masks)


@dataclass(frozen=True)
class Space:
    """All operating points of a problem.  `complete` says that no shape was left out."""

    problem: Problem
    pricer: Pricer
    named: tuple[Metric, ...]
    options: tuple[Options, ...]
    complete: bool

    @property
    def size(self) -> int:
        return sum(len(o.points.batches) for o in self.options)

    def everything(self, ideal: bool = False) -> Choice:
        return Choice(tuple(np.ones(len(o.points.batches), dtype=bool) for o in self.options), ideal)

    def meeting(self, rules: Rules, ideal: bool = False) -> Choice:
        """The operating points that meet every rule over shapes and latencies."""
        found = self.everything(ideal)
        for rule in rules.filters:
            found = found.where(self.met(rule, ideal))
        return found

    def met(self, rule: Rule, ideal: bool = False) -> tuple[Bools, ...]:
        """Where a rule over shapes or latencies holds; a rule over degrees must hold for every stage."""
        return tuple(self._met(rule, o, ideal) for o in self.options)

    def _met(self, rule: Rule, options: Options, ideal: bool) -> Bools:
        phase, role, many = phase_of(rule, self.problem.serve), options.points.role, len(options.points.batches)
        if phase is not None and role not in (phase, "both"):
            return np.ones(many, dtype=bool)
        if all(m.name in SHAPES for m in metrics_in(rule.expr)):
            return np.full(many, self._fits(rule, options.points.shape))
        return truth(rule.expr, lambda m: self._kept_clear(options, m, ideal))

    def _fits(self, rule: Rule, shape: Shape) -> bool:
        kinds = {self.problem.classes[s.cls].gpu.name for s in shape.slots}
        figures = {"pp": float(len(shape.stages)), "kinds": float(len(kinds))}
        degrees = sorted({tp for _, tp in shape.stages})
        return all(holds(rule.expr, lambda m, t=tp: figures.get(m.name, float(t))) for tp in degrees)  # type: ignore[misc]

    def _kept_clear(self, options: Options, metric: Metric, ideal: bool) -> Floats:
        """A latency as a rule sees it, with the margin that a simulation asked for."""
        kind = self.problem.kind_of(options.points.shape, options.points.role)
        return self.column(options, metric, ideal) * (1.0 if ideal else self.problem.margin(str(metric), kind))

    def at_most(self, metric: Metric, limit: float, ideal: bool = False) -> tuple[Bools, ...]:
        """Where a latency is at most so much."""
        return tuple(self.column(o, metric, ideal) <= limit for o in self.options)

    def column(self, options: Options, metric: Metric, ideal: bool = False) -> Floats:
        return np.asarray(options.latencies(ideal)[:, self.named.index(metric)])


def space_of(problem: Problem, named: Sequence[Metric]) -> Space:
    """Every operating point, with the latencies that are named."""
    pricer = Pricer(problem)
    shapes = every_shape(problem) if problem.small else promising_shapes(problem, pricer)
    return priced(pricer, named, dict.fromkeys(roles_of(problem, named), shapes))


def roles_of(problem: Problem, named: Sequence[Metric]) -> tuple[Role, ...]:
    """The roles that a replica may have: one phase only where the spec names phases and no rule is about both."""
    apart = problem.phased and problem.apart and not any(m.name == "latency" for m in named)
    return ("both", "prefill", "decode") if apart else ("both",)


def priced(pricer: Pricer, named: Sequence[Metric], shapes: Mapping[Role, Sequence[Shape]]) -> Space:
    """The operating points of the shapes of each role."""
    problem, points = pricer.problem, list[Points]()
    for role, some in shapes.items():
        runnable = _runnable(some, problem, role)
        points += prefill_points(pricer, runnable) if role == "prefill" else pricer.points(runnable, role)
    return space_over(pricer, named, points, problem.small)


def space_over(pricer: Pricer, named: Sequence[Metric], points: Iterable[Points], complete: bool) -> Space:
    """These operating points with the latencies that are named."""
    options = tuple(_options(p, pricer.problem, pricer, tuple(named)) for p in points)
    return Space(pricer.problem, pricer, tuple(named), options, complete)


def _runnable(shapes: Sequence[Shape], problem: Problem, role: Role) -> Iterator[Shape]:
    """The shapes that may take this role, and that every engine of the workflow's targets can run."""
    limits, formats = limits_of(problem.serve.target), [c.formats for c in problem.classes]
    for shape in shapes:
        parts = [Part(s.machine, formats[s.cls], s.tp) for s in shape.slots]
        if limits.allows(parts, role) and problem.may_do(role, {s.cls for s in shape.slots}):
            yield shape


def _options(points: Points, problem: Problem, pricer: Pricer, named: tuple[Metric, ...]) -> Options:
    if not named:
        none = np.zeros((len(points.batches), 0))
        return Options(points, none, none)
    stages = tuple(pricer.stage(c, t) for c, t in points.shape.stages)
    line = Pipeline(stages, tuple(points.layers.T), points.hops)
    known, kind = problem.arrivals is not None or points.role == "prefill", LATENCY_OF[points.role]
    seats = problem.seats(points.batches, points.kv_tokens)
    real = kind(line, points.batches, points.rate if known else None, problem, points.tpot, seats)
    metrics = np.stack([np.broadcast_to(real.value(m), points.batches.shape) for m in named], axis=1)
    if not problem.small:
        return Options(points, metrics, metrics)
    some = tuple(map(int, points.layers[0]))
    ideal = _ideal(points, IdealLine(stages, some, points.hops, points.step_tokens, points.most), problem)
    return Options(
        points, metrics, np.stack([np.broadcast_to(ideal.value(m), points.batches.shape) for m in named], axis=1)
    )


def _ideal(points: Points, line: IdealLine, problem: Problem) -> Latency:
    """Latencies just beyond the point before: the least load at which as many requests must run."""
    before = np.concatenate([[0], points.batches[:-1]])
    batches = before + 1
    steps = np.where(batches == points.batches, points.tpot, np.concatenate([points.tpot[:1], points.tpot[:-1]]))
    rates = np.concatenate([[0.0], np.maximum.accumulate(points.rate)[:-1]])
    known = problem.arrivals is not None or points.role == "prefill"
    return LATENCY_OF[points.role](line, batches, rates if known else None, problem, steps)


@dataclass(frozen=True)
class _Row:
    """An operating point by position, with its rate and latencies."""

    option: int
    row: int
    rate: float
    metrics: tuple[float, ...]


def worthwhile(
    space: Space, choice: Choice, metrics: Sequence[Metric] = (), faster: bool = True
) -> tuple[Candidate, ...]:
    """The operating points that no other of the same use of machines beats in rate and in these latencies.

    A plan never gets worse by replacing the beaten one, so that leaving it out loses nothing; where a higher rate is
    not always better (`faster`), only points of the same rate can beat.  Of equals the first is kept.
    """
    columns = [space.named.index(m) for m in metrics]
    bearable, ratio = _bearable(space, choice, columns), THIN if space.problem.small else WIDE_THIN
    groups: dict[tuple[Role, Signature], list[_Row]] = {}
    for i, (options, mask) in enumerate(zip(space.options, choice.masks, strict=True)):
        values = options.latencies(choice.ideal)[:, columns]
        mask = mask & (np.isfinite(values) & (values <= bearable)).all(axis=1)
        rows = _best_row(options, mask) if not columns and faster else _thinned(options, mask, ratio)
        found = _rows(i, options, rows, columns, choice.ideal)
        groups.setdefault((options.points.role, options.points.shape.signature), []).extend(found)
    kept = (row for rows in groups.values() for row in _front(rows, faster))
    return tuple(_candidate(space, row) for row in sorted(kept, key=lambda r: (r.option, r.row)))


def quickest(space: Space, choice: Choice) -> tuple[Candidate | None, ...]:
    """For each of a space's options the operating point of the highest rate that may be taken."""
    pairs = enumerate(zip(space.options, choice.masks, strict=True))
    found = ((i, o.points.rate, _best_row(o, mask)) for i, (o, mask) in pairs)
    return tuple(_candidate(space, _Row(i, r[0], float(rate[r[0]]), ())) if len(r) else None for i, rate, r in found)


FAR_OFF = 100.0
"""An operating point at which a latency is so many times the least of any is no part of a least mean."""


def _bearable(space: Space, choice: Choice, columns: Sequence[int]) -> Floats:
    """The most that latencies whose mean is wanted may come to: where requests wait for ever, there is no mean."""
    pairs = zip(space.options, choice.masks, strict=True)
    values = [o.latencies(choice.ideal)[mask][:, columns] for o, mask in pairs]
    rows = np.concatenate(values) if values else np.zeros((0, len(columns)))
    return np.asarray(FAR_OFF * rows.min(axis=0)) if len(rows) else np.full(len(columns), np.inf)


def _best_row(options: Options, mask: Bools) -> Ints:
    rows = np.flatnonzero(mask)
    return rows[np.argmax(options.points.rate[rows])][None] if len(rows) else rows


def _thinned(options: Options, mask: Bools, ratio: float) -> Ints:
    """Rows at which the number of running requests has grown by this ratio, and the last."""
    kept: list[int] = []
    rows = np.flatnonzero(mask)
    for row in rows:
        if not kept or row == rows[-1] or options.points.batches[row] >= ratio * options.points.batches[kept[-1]]:
            kept.append(int(row))
    return np.array(kept, dtype=np.int64)


def _rows(option: int, options: Options, rows: Ints, columns: Sequence[int], ideal: bool) -> Iterator[_Row]:
    """The rows; ideal latencies are those of the first row after the one before."""
    values = options.latencies(ideal)
    rate = np.maximum.accumulate(options.points.rate) if ideal else options.points.rate
    before = -1
    for row in map(int, rows):
        at = before + 1 if ideal else row
        yield _Row(option, row, float(rate[row]), tuple(float(values[at, c]) for c in columns))
        before = row


def _front(rows: list[_Row], faster: bool) -> list[_Row]:
    if not rows:
        return []
    keys = np.array([(-r.rate, *(() if faster else (r.rate,)), *r.metrics) for r in rows])
    kept: list[int] = []
    for i in np.lexsort(tuple(keys[:, k] for k in reversed(range(keys.shape[1])))):
        if not kept or not (keys[kept] <= keys[i]).all(axis=1).any():
            kept.append(int(i))
    return [rows[i] for i in kept]


def _candidate(space: Space, row: _Row) -> Candidate:
    points = space.options[row.option].points
    layers = tuple(map(int, points.layers[row.row]))
    batch, tokens, step = (int(x[row.row]) for x in (points.batches, points.kv_tokens, points.step_tokens))
    return Candidate(points.shape, layers, batch, row.rate, tokens, step, row.metrics, points.role)
