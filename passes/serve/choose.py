"""How many replicas of which kind: the aggregated pattern formulation, as a mixed-integer programme.

Sets
    p  candidates: a shape with its layers at one number of running requests (`candidates`)
    c  classes of equal machines, n_c machines of g_c GPUs each
    k  ways to cut a machine of a class: the partitions of g_c; a_{k,s} parts of size s
Parameters
    r_p requests/s of a replica; u_{p,c,s} parts of size s that it takes from class c; cost, GPUs, watts; m_p a latency;
    lambda the arrivals, where the load gives them
Variables
    x_p  whole, replicas of p;  z_{c,k} whole, machines cut in way k
    f_KK' >= 0, requests/s that are prefilled on replicas at place K (P_K) and decoded at K' (D_K'), where phases may
    lie on different replicas; h, all of them; sums of r_p over p are otherwise over those that do both
    g >= 0, requests/s that are served, where arrivals are known; y_p >= 0, those of each candidate, where an objective
    is a mean latency
Constraints
    g <= sum_p r_p x_p + h, or y_p <= r_p x_p and g = sum_p y_p  replicas serve at most their rate
    h = sum_KK' f_KK',  sum_K' f_KK' <= sum_(p in P_K) r_p x_p,  sum_K f_KK' <= sum_(p in D_K') r_p x_p
    f_KK' <= k_KK' sum_(p in P_K) x_p,  f_KK' <= k_KK' sum_(p in D_K') x_p        KV caches fit on their links; places
                                                                told apart by none that binds are one (`between`)
    sum_p u_{p,c,s} x_p <= sum_k a_{k,s} z_{c,k}                 parts fit into machines
    sum_k z_{c,k} <= n_c                                        there are only so many machines
    g <= lambda, or = lambda where all arrivals must be served
    sum_p x_p >= 1 over those that prefill, and over those that decode
    the user's linear rules over totals; x_p = 0 for candidates that break a rule over shapes or latencies
Machines of a class are interchangeable, so that counting them instead of naming them loses no plan.  Parts of one
replica lie on different machines; that is checked when they are placed, and combinations that cannot be are forbidden.
Rows and goals are scaled by their largest coefficient, since the solver's tolerances are absolute.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from hexdsl.passes.serve.between import Pair, between
from hexdsl.passes.serve.candidates import Candidate
from hexdsl.passes.serve.layers import Floats
from hexdsl.passes.serve.problem import NodeClass, Problem
from hexdsl.passes.serve.rules import Linear, Total
from hexdsl.passes.serve.shapes import Signature
from hexdsl.solve import (
    Binary,
    ConcreteModel,
    Constraint,
    ConstraintList,
    NonNegativeIntegers,
    NonNegativeReals,
    Var,
    quicksum,
)

HOUR = 3600.0

Unplaceable = Mapping[Signature, int]
"""Replicas by what they take, which cannot be placed together."""


@dataclass(frozen=True)
class Scaled:
    """An expression of the programme; `expression * scale` is the figure in base units."""

    expression: Any
    scale: float


@dataclass(frozen=True)
class Programme:
    """The model with its variables.  `shares` says that there is a y for each candidate."""

    model: Any
    problem: Problem
    candidates: tuple[Candidate, ...]
    shares: bool
    unit: float
    """Requests/s in which f, g and y count."""
    cuts: tuple[tuple[tuple[int, ...], ...], ...]
    """The ways to cut a machine of each class."""

    def linear(self, form: Linear) -> Scaled:
        """A linear form over totals."""
        each = sum(
            (w * self.each(n, form.requests) for n, w in sorted(form.weights.items())), np.zeros(len(self.candidates))
        )
        served = 0.0 if self.problem.arrivals is None else form.weights.get("goodput", 0.0) * self.unit
        handed = self._handed(form)
        scale = max(float(np.abs(each).max(initial=0.0)), abs(served), abs(handed)) or 1.0
        found = quicksum(float(a) * self.model.x[i] for i, a in enumerate(each / scale) if a) + form.constant / scale
        found += served / scale * self.model.served if served else 0.0
        found += handed / scale * quicksum(self.model.handed.values()) if handed else 0.0
        return Scaled(found, scale)

    def _handed(self, form: Linear) -> float:
        """What a unit of requests/s that change replicas adds to a form."""
        if not hasattr(self.model, "handed"):
            return 0.0
        tokens = 1.0 if form.requests else self.problem.output
        goodput = form.weights.get("goodput", 0.0) if self.problem.arrivals is None else 0.0
        return (form.weights.get("throughput", 0.0) * tokens + goodput) * self.unit

    def each(self, name: str, requests: bool = False) -> Floats:
        """What one replica of each candidate adds to a total, in base units; 0 where replicas do not add up to it."""
        if name in ("throughput", "goodput"):
            rates = np.array([c.rate if c.role == "both" else 0.0 for c in self.candidates])
            if name == "goodput":
                return rates if self.problem.arrivals is None else np.zeros_like(rates)
            return rates * (1.0 if requests else self.problem.output)
        per_gpu: dict[str, Callable[[NodeClass], float]] = {
            "cost": lambda c: (c.usd_per_h or 0.0) / HOUR,
            "energy": lambda c: c.watts or 0.0,
            "devices": lambda c: 1.0,
        }
        if name == "replicas":
            return np.ones(len(self.candidates))
        figures = [per_gpu[name](cls) for cls in self.problem.classes]
        return np.array([sum(figures[c] * n for c, n in p.shape.signature) for p in self.candidates])

    def mean(self, column: int) -> Scaled:
        """The mean of a latency over all requests, where all arrivals are served."""
        values = np.array([c.metrics[column] for c in self.candidates])
        scale = float(values.max(initial=0.0)) or 1.0
        parts = quicksum(float(v) / scale * self.model.y[i] for i, v in enumerate(values))
        assert self.problem.arrivals is not None
        return Scaled(parts * (self.unit / self.problem.arrivals), scale)

    def order(self) -> Scaled:
        """The last tie-break: candidates in the order in which they were made."""
        return Scaled(quicksum(i * self.model.x[i] for i in self.model.x), 1.0)

    def require(self, total: Total) -> Any:
        """Adds a rule; returns its constraint."""
        made = self.linear(total.linear).expression
        return self.add(made <= 0 if total.op == "<=" else made >= 0 if total.op == ">=" else made == 0)

    def add(self, relation: Any) -> Any:
        """Adds a constraint; one that hangs on no variable as a row that holds always, or never."""
        if isinstance(relation, (bool, np.bool_)):
            relation = self.model.x[0] >= 0 if relation else self.model.x[0] <= -1
        return self.model.rules.add(relation)

    def bar(self, members: Sequence[int]) -> list[Any]:
        """Forbids candidates; returns the constraints, none where there are no members."""
        return [self.model.rules.add(quicksum(self.model.x[i] for i in members) <= 0)] if members else []

    def forbid(self, together: Unplaceable, name: str) -> None:
        """Forbids that so many replicas of each of these kinds are there together."""
        less = Var(range(len(together)), domain=Binary)
        setattr(self.model, name, less)
        most = self.problem.devices
        for k, (signature, count) in enumerate(sorted(together.items())):
            members = [i for i, c in enumerate(self.candidates) if c.shape.signature == signature]
            there = quicksum(self.model.x[i] for i in members)
            self.model.placed.add(there <= count - 1 + most * (1 - less[k]))
        self.model.placed.add(quicksum(less[k] for k in less) >= 1)


def programme(
    problem: Problem, candidates: Sequence[Candidate], serve_all: bool, shares: bool = False,
    unplaceable: Sequence[Unplaceable] = (), heeded: frozenset[Pair] | None = None,
) -> Programme:  # fmt: skip
    """The programme over these candidates, without the user's rules; of the links with those of `heeded`, or all."""
    model, rates = ConcreteModel(), [c.rate for c in candidates]
    uses = _uses(candidates)
    cuts = tuple(cuts_of(c.size, frozenset(s for k, s in uses if k == i)) for i, c in enumerate(problem.classes))
    made = Programme(model, problem, tuple(candidates), shares, max(rates), cuts)
    model.x = Var(range(len(candidates)), domain=NonNegativeIntegers)
    halves = [[i for i, c in enumerate(candidates) if c.role in ("both", half)] for half in ("prefill", "decode")]
    model.some = Constraint(
        range(2), rule=lambda m, k: quicksum(m.x[i] for i in halves[k]) >= 1 if halves[k] else Constraint.Infeasible
    )
    model.rules, model.placed = ConstraintList(), ConstraintList()
    _add_machines(made, uses)
    if any(c.role != "both" for c in candidates):
        _add_handovers(made, heeded)
    if problem.arrivals is not None:
        _add_load(made, problem.arrivals / made.unit, serve_all)
    for k, together in enumerate(unplaceable):
        made.forbid(together, f"less_{k}")
    return made


def _add_handovers(made: Programme, heeded: frozenset[Pair] | None) -> None:
    """The flows from prefill to decode replicas by place, within what those serve and what links carry."""
    model, found = made.model, between(made.problem, made.candidates, heeded)
    model.handed = Var(sorted(found.most), domain=NonNegativeReals)
    model.flows = ConstraintList()

    def total(side: Sequence[int], each: Callable[[int], float]) -> Any:
        return quicksum(each(i) * model.x[i] for i in side)

    for (a, b), most in sorted(found.most.items()):
        for side in (found.first[a], found.then[b]) if math.isfinite(most) else ():
            model.flows.add(model.handed[a, b] <= total(side, lambda _, k=most / made.unit: k))  # type: ignore[misc]
    for at, groups in enumerate((found.first, found.then)):
        for place, who in enumerate(groups):
            gone = quicksum(model.handed[pair] for pair in sorted(found.most) if pair[at] == place)
            model.flows.add(gone <= total(who, lambda i: made.candidates[i].rate / made.unit))


def _add_load(made: Programme, arrivals: float, serve_all: bool) -> None:
    model, rates = made.model, [c.rate / made.unit for c in made.candidates]
    model.served = Var(domain=NonNegativeReals)
    if made.shares:
        model.y = Var(model.x.index_set(), domain=NonNegativeReals)
        model.serves = Constraint(model.x.index_set(), rule=lambda m, i: m.y[i] <= rates[i] * m.x[i])
        model.shared = Constraint(expr=model.served == quicksum(model.y[i] for i in model.y))
    else:
        whole = quicksum(r * model.x[i] for i, r in enumerate(rates) if made.candidates[i].role == "both")
        handed = quicksum(model.handed.values()) if hasattr(model, "handed") else 0.0
        model.serves = Constraint(expr=model.served <= whole + handed)
    model.at_most = Constraint(expr=model.served <= arrivals)
    if serve_all:
        model.all_served = Constraint(expr=model.served >= arrivals * (1 - 1e-9))


def _add_machines(made: Programme, uses: Uses) -> None:
    model, classes, cuts = made.model, made.problem.classes, made.cuts
    model.z = Var([(c, k) for c in range(len(cuts)) for k in range(len(cuts[c]))], domain=NonNegativeIntegers)
    model.machines = Constraint(
        [c for c in range(len(cuts)) if cuts[c]],
        rule=lambda m, c: quicksum(m.z[c, k] for k in range(len(cuts[c]))) <= classes[c].count,
    )
    model.parts = Constraint(
        sorted(uses),
        rule=lambda m, c, s: (
            quicksum(n * m.x[i] for i, n in uses[c, s])
            <= quicksum(cut.count(s) * m.z[c, k] for k, cut in enumerate(cuts[c]) if s in cut)
        ),
    )


Uses = dict[tuple[int, int], list[tuple[int, int]]]
"""Class and size to the candidates that take such parts, and how many."""


def _uses(candidates: Sequence[Candidate]) -> Uses:
    uses: Uses = {}
    for i, candidate in enumerate(candidates):
        for part, count in sorted(Counter(candidate.shape.signature).items()):
            uses.setdefault(part, []).append((i, count))
    return uses


@cache
def cuts_of(size: int, parts: frozenset[int]) -> tuple[tuple[int, ...], ...]:
    """The ways to cut a machine into these parts that leave no room for another of them, largest parts first."""
    if not parts:
        return ()
    return tuple(_cuts(size, tuple(sorted(parts, reverse=True)), min(parts)))


def _cuts(size: int, parts: tuple[int, ...], least: int) -> Iterator[tuple[int, ...]]:
    if size < least:
        yield ()
    for k, part in enumerate(parts):
        if part <= size:
            yield from ((part, *rest) for rest in _cuts(size - part, parts[k:], least))
