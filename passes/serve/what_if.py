"""A finished plan's question asked again under changes: what `explain` compares the plan with.

A plan of the programme (`choose`) takes of each role and signature, that is what a replica takes from the inventory,
only the operating points that no other beats (`candidates.worthwhile`).  Conditions here count replicas by role and
signature, or GPUs by class, and so treat those points alike: leaving out the beaten ones loses no plan under them
either, and is done once for all questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hexdsl.ir.base import Ir, Rounded
from hexdsl.ir.diagnostic import LimitError
from hexdsl.ir.plan import Machine, Plan
from hexdsl.ir.spec.rule import Metric, Rule
from hexdsl.passes.serve.candidates import Candidate, Choice, Options, Space, space_of, worthwhile
from hexdsl.passes.serve.choose import Programme
from hexdsl.passes.serve.decide import Decided, decide
from hexdsl.passes.serve.goals import Aim, aims_of
from hexdsl.passes.serve.layers import Bools, Ints
from hexdsl.passes.serve.problem import Problem, Role, problem_of
from hexdsl.passes.serve.question import Question
from hexdsl.passes.serve.rules import latencies_in, rules_of
from hexdsl.passes.serve.shapes import Shape, Signature

Kind = tuple[Role, Signature]
"""What a replica does, and what it takes from the inventory."""

Condition = Callable[[Programme], None]


class Alike(Ir):
    """Replicas of one kind: how many, and what each takes and does, in words."""

    count: int
    words: str


class Outcome(Ir):
    """What a plan comes to: the first objective in its base unit, and what else people ask first."""

    value: Rounded
    served_req_per_s: Rounded
    cost_usd_per_h: Rounded | None
    gpus: int
    replicas: tuple[Alike, ...]


@dataclass(frozen=True)
class WhatIf:
    """A plan with the question that it answers, and the operating points that may matter."""

    plan: Plan
    question: Question

    @property
    def problem(self) -> Problem:
        return self.question.space.problem

    @property
    def aim(self) -> Aim:
        """The first objective."""
        return self.question.aims[0]

    @cached_property
    def lean(self) -> Question:
        """The question over the operating points that no other beats."""
        return self.leaned(self.question)

    @cached_property
    def _met(self) -> dict[Rule, tuple[Bools, ...]]:
        """The operating points that meet each rule."""
        return {rule: self.question.space.met(rule) for rule in self.question.rules.filters}

    def leaned(self, question: Question) -> Question:
        """The question over fewer of the same operating points, perhaps under other rules."""
        choice = question.space.everything()
        for rule in question.rules.filters:
            choice = choice.where(self._met[rule] if rule in self._met else question.space.met(rule))
        return leaned(question, choice)

    @cached_property
    def now(self) -> Decided:
        """The best plan as things are: that of the planner."""
        return decide(self.lean, self.plan.machines)

    @cached_property
    def outcome(self) -> Outcome:
        return outcome_of(self.now, self.problem)

    @cached_property
    def kinds(self) -> Counter[Kind]:
        """The replicas of the best plan by kind."""
        return Counter(kind_of(p.candidate) for p in self.now.picks)

    def under(self, *conditions: Condition) -> Outcome | None:
        """The best plan that meets these conditions too; None where there is none, or none was found."""
        made = decided(replace(self.lean, conditions=conditions), self.plan.machines)
        return None if made is None else outcome_of(made, self.problem)

    def gain(self, value: float) -> float:
        """By how much a value of the first objective is better than that of the plan; negative where it is worse."""
        more = value - self.now.value
        return more if self.aim.sense == "maximize" else -more


def what_if(plan: Plan) -> WhatIf:
    """The question that a finished plan answers, with the margins that it keeps."""
    problem = problem_of(plan)
    rules, aims = rules_of(problem.serve), aims_of(problem.serve, problem)
    named = latencies_in(rules, [a.metric for a in aims if a.metric is not None])
    return WhatIf(plan, Question(space_of(problem, named), rules, aims))


def decided(question: Question, machines: Sequence[Machine]) -> Decided | None:
    """The best plan; None where there is none, or none was found."""
    if not question.possible(question.space.meeting(question.rules)):
        return None
    try:
        return decide(question, machines)
    except LimitError:
        return None


def leaned(question: Question, choice: Choice) -> Question:
    """The question over those of these operating points that no other of their kind beats.

    Where latencies of the worst replica are objectives, points that no other beats in rate and in these; all points
    where the mean of a latency is one besides, or a lower rate may be better.
    """
    space = question.space
    worst = [a.metric for a in question.aims if a.metric is not None and a.metric not in question.means]
    if worst and (question.means or not question.faster):
        return question
    if worst:
        kept = _fronts(space, choice, worst)
    else:
        kept = _kept(space, worthwhile(space, choice, question.means, question.faster))
    some = (rows_of(o, np.array(rows)) for o, rows in zip(space.options, kept, strict=True) if rows)
    return replace(question, space=replace(space, options=tuple(some)))


def _kept(space: Space, found: Sequence[Candidate]) -> list[list[int]]:
    """The rows of these candidates, for each of the space's options."""
    wanted: dict[tuple[Role, Shape], list[float]] = {}
    for c in found:
        wanted.setdefault((c.role, c.shape), []).append(c.rate)
    points = (o.points for o in space.options)
    return [np.flatnonzero(np.isin(p.rate, wanted.get((p.role, p.shape), []))).tolist() for p in points]


def _fronts(space: Space, choice: Choice, metrics: Sequence[Metric]) -> list[list[int]]:
    """For each option the rows that no other of its kind beats in rate and in these latencies."""
    kinds: dict[Kind, list[tuple[int, int, tuple[float, ...]]]] = {}
    for k, (o, mask) in enumerate(zip(space.options, choice.masks, strict=True)):
        columns = np.stack([-o.points.rate, *(space.column(o, m) for m in metrics)], axis=1)
        rows = [(k, int(i), tuple(columns[i].tolist())) for i in np.flatnonzero(mask)]
        kinds.setdefault((o.points.role, o.points.shape.signature), []).extend(rows)
    kept: list[list[int]] = [[] for _ in space.options]
    for found in kinds.values():
        front: list[tuple[float, ...]] = []
        for k, i, figures in sorted(found, key=lambda row: row[2]):
            if not front or not (np.array(front) <= figures).all(axis=1).any():
                front.append(figures)
                kept[k].append(i)
    return [sorted(rows) for rows in kept]


def rows_of(options: Options, rows: Ints) -> Options:
    """Some of a shape's operating points."""
    points = options.points
    fields = ("batches", "layers", "tpot", "rate", "kv_tokens", "step_tokens")
    some = replace(points, **{name: getattr(points, name)[rows] for name in fields})
    return Options(some, options.metrics[rows], options.ideal[rows])


def with_more(space: Space, more: Sequence[Options], problem: Problem) -> Space:
    """The space with more operating points, of another problem in which the old ones hold too."""
    return replace(space, problem=problem, options=(*space.options, *more), complete=problem.small)


def kind_of(candidate: Candidate) -> Kind:
    return candidate.role, candidate.shape.signature


def members(made: Programme, kind: Kind) -> list[int]:
    """The candidates of a kind, by number."""
    return [i for i, c in enumerate(made.candidates) if kind_of(c) == kind]


def outcome_of(made: Decided, problem: Problem) -> Outcome:
    """What a decision comes to."""
    candidates = [p.candidate for p in made.picks]
    served = sum(p.load for p in made.picks) if made.served is None else made.served
    prices = [c.usd_per_h for c in problem.classes]
    used: Counter[int] = Counter()
    for candidate in candidates:
        used.update({c: 0 for c, _ in candidate.shape.signature})
        for c, n in candidate.shape.signature:
            used[c] += n
    cost = None if None in prices else sum((prices[c] or 0.0) * n for c, n in used.items())
    return Outcome(
        value=made.value,
        served_req_per_s=served,
        cost_usd_per_h=cost,
        gpus=sum(used.values()),
        replicas=tuple(_alike(candidates, problem)),
    )


def _alike(candidates: Sequence[Candidate], problem: Problem) -> Iterator[Alike]:
    """The replicas by kind, in the order of first mention."""
    for kind, count in Counter(kind_of(c) for c in candidates).items():
        yield Alike(count=count, words=kind_words(kind, problem))


def kind_words(kind: Kind, problem: Problem) -> str:
    """`4 H100 of big + 2 A100 of middle (decode)`: the GPUs of each machine."""
    role, signature = kind
    parts = Counter(signature)
    words = [
        f"{'' if many == 1 else f'{many} x '}{n} {problem.classes[c].gpu.name} of {problem.classes[c].name}"
        for (c, n), many in sorted(parts.items())
    ]
    return " + ".join(words) + ("" if role == "both" else f" ({role})")
