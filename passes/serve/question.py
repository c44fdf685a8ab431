"""What is asked of the programme: the operating points, rules and objectives together, and the searches over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hexdsl.ir.spec.rule import Metric, Rule
from hexdsl.passes.serve.between import Pair
from hexdsl.passes.serve.candidates import Choice, Space, worthwhile
from hexdsl.passes.serve.choose import Programme, Unplaceable, programme
from hexdsl.passes.serve.goals import Aim, expression, faster_is_better, serves_all
from hexdsl.passes.serve.rules import Linear, Rules
from hexdsl.solve import Limits, Solution, solve
from hexdsl.solve import Objective as Goal

LIMITS = Limits(max_nodes=200_000, rel_gap=1e-7, time_s=120)
WIDE_LIMITS = Limits(max_nodes=300, rel_gap=1e-3, time_s=30)
"""On large inventories the shapes are not complete anyway, and the bound comes from the relaxation."""

KEPT = 1e-6
"""An objective that was reached is kept to within this share while later ones are pursued."""


@dataclass(frozen=True)
class Kept:
    """An objective with the value that it reached."""

    aim: Aim
    value: float


@dataclass(frozen=True)
class Question:
    """A problem's operating points under rules, with objectives in order."""

    space: Space
    rules: Rules
    aims: tuple[Aim, ...]
    unplaceable: tuple[Unplaceable, ...] = ()
    heeded: frozenset[Pair] | None = None
    """Links between phases that count, of those that may bind; None for all."""
    kept: tuple[Kept, ...] = ()
    conditions: tuple[Callable[[Programme], None], ...] = ()
    """What must hold besides the rules: each adds its constraints to a programme."""

    @property
    def serve_all(self) -> bool:
        return serves_all(self.aims, self.space.problem)

    @property
    def faster(self) -> bool:
        return faster_is_better(self.rules, self.aims, self.space.problem)

    @property
    def limits(self) -> Limits:
        return LIMITS if self.space.complete else WIDE_LIMITS

    @property
    def means(self) -> tuple[Metric, ...]:
        """The latencies whose mean over all requests is an objective."""
        return tuple(a.metric for a in self.aims if a.metric is not None and a.is_mean(self.space.problem))

    def without(self, rule: Rule) -> Question:
        return replace(self, rules=self.rules.without(rule))

    def keeping(self, *kept: Kept) -> Question:
        return replace(self, kept=(*self.kept, *kept))

    def programme(self, choice: Choice, serve_all: bool = True) -> Programme | None:
        """The programme over the operating points that may be taken; None where there are none."""
        candidates = worthwhile(self.space, choice, self.means, self.faster)
        if not candidates:
            return None
        everything = serve_all and self.serve_all
        shares = bool(self.means)
        made = programme(self.space.problem, candidates, everything, shares, self.unplaceable, self.heeded)
        for total in self.rules.total:
            made.require(total)
        for kept in self.kept:
            self._keep(made, kept)
        for condition in self.conditions:
            condition(made)
        return made

    def _keep(self, made: Programme, kept: Kept) -> None:
        form, slack = expression(kept.aim, made, self.column(kept.aim)), KEPT * abs(kept.value)
        if kept.aim.sense == "maximize":
            made.add(form.expression >= (kept.value - slack) / form.scale)
        else:
            made.add(form.expression <= (kept.value + slack) / form.scale)

    def column(self, aim: Aim) -> int:
        """The column of an aim's latency among the candidates' own, 0 where it has none."""
        return self.means.index(aim.metric) if aim.metric in self.means else 0

    def optimum(self, choice: Choice, form: Linear | Aim, sense: Any, served: bool = True) -> Solved | None:
        """The best value of a linear form, or of an aim; None where there is no plan, or none was found.

        `served` says that all arrivals must be served where the objectives ask for it.
        """
        made = self.programme(choice, served)
        if made is None:
            return None
        found = made.linear(form) if isinstance(form, Linear) else expression(form, made, self.column(form))
        made.model.goal = Goal(expr=found.expression, sense=sense)
        solution = solve(made.model, self.limits)
        if solution.objective is None or solution.bound is None:
            return None
        return Solved(made, solution, solution.objective * found.scale, solution.bound * found.scale)

    def possible(self, choice: Choice) -> bool:
        """Whether there is a plan of these operating points."""
        made = self.programme(choice)
        return made is not None and solve(made.model, self.limits).found

    def least(self, choice: Choice, metric: Metric) -> float | None:
        """The least limit on a latency of every replica at which there is a plan; None where there is none at all."""
        values = self._values(choice, metric)
        low, high = 0, len(values)
        while low < high:
            middle = (low + high) // 2
            if self.possible(choice.where(self.space.at_most(metric, values[middle], choice.ideal))):
                high = middle
            else:
                low = middle + 1
        return None if low == len(values) else values[low]

    def _values(self, choice: Choice, metric: Metric) -> Sequence[float]:
        columns = zip(self.space.options, choice.masks, strict=True)
        parts = [self.space.column(o, metric, choice.ideal)[mask] for o, mask in columns]
        found = np.unique(np.concatenate(parts)) if parts else np.zeros(0)
        return [float(v) for v in found[np.isfinite(found)]]


@dataclass(frozen=True)
class Solved:
    """A programme with its solution loaded, and its value and bound in base units."""

    programme: Programme
    solution: Solution
    value: float
    bound: float
