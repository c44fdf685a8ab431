"""How many replicas of which kind: the aggregated pattern formulation, as a mixed-integer programme.

Sets
    p  candidates: a shape with its layers at one number of running requests (`candidates`)
    c  classes of equal machines, n_c machines of g_c GPUs each
    k  ways to cut a machine of a class: the partitions of g_c; a_{k,s} parts of size s
Parameters
    r_p requests/s of a replica; u_{p,c,s} segments of size s that it takes from class c; cost, GPUs, watts; m_p the
    latency metrics; lambda the arrivals, where the load gives them
Variables
    x_p  whole, replicas of p;  y_p >= 0, requests/s that they serve;  z_{c,k} whole, machines cut in way k
    t_j >= metric j of every replica in use, u_p binary, whether p is in use (only where an objective needs them)
Constraints
    y_p <= r_p x_p                                      a replica serves at most its rate
    sum_p u_{p,c,s} x_p <= sum_k a_{k,s} z_{c,k}         segments fit into parts of machines
    sum_k z_{c,k} <= n_c                                there are only so many machines
    sum_p y_p <= lambda, or = lambda where all arrivals must be served;  sum_p x_p >= 1
    the user's rules: linear ones over totals, and x_p = 0 for candidates that break a rule over shapes or latencies
Machines of a class are interchangeable, so that counting them instead of naming them loses no plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hexdsl.ir.spec.rule import Metric, Rule
from hexdsl.passes.serve.candidates import Candidate, Space
from hexdsl.passes.serve.rules import Linear, Total
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


@dataclass
class Programme:
    """The model with its variables, and the constraints of each of the user's rules by the rule's text."""

    model: Any
    space: Space
    candidates: tuple[Candidate, ...]
    rules: dict[str, list[Any]] = field(default_factory=dict)

    def linear(self, form: Linear) -> Any:
        """A linear form over totals as an expression."""
        return quicksum(w * self.total(n, form.requests) for n, w in sorted(form.weights.items())) + form.constant

    def total(self, name: str, requests: bool = False) -> Any:
        """A total of the plan as an expression, in base units."""
        if name == "goodput":
            return quicksum(self.model.y[i] for i in self.model.y)
        return quicksum(self._weight(name, c, requests) * self.model.x[i] for i, c in enumerate(self.candidates))

    def _weight(self, name: str, candidate: Candidate, requests: bool) -> float:
        if name == "throughput":
            output = float(self.space.problem.load.output)  # type: ignore[arg-type]
            return candidate.point.rate * (1.0 if requests else output)
        weights = {
            "cost": candidate.usd_per_h / HOUR,
            "devices": float(candidate.point.shape.devices),
            "energy": candidate.watts,
            "replicas": 1.0,
        }
        return weights[name]

    def order(self) -> Any:
        """The last tie-break: candidates in the order in which they were made."""
        return quicksum(i * self.model.x[i] for i in self.model.x)

    def served(self, metric: Metric) -> Any:
        """A mean latency over the requests served, times the arrivals."""
        j = self.space.named.index(metric)
        return quicksum(c.metrics[j] * self.model.y[i] for i, c in enumerate(self.candidates))

    def worst(self, metric: Metric) -> Any:
        """The largest value of a latency among the replicas in use."""
        j = self.space.named.index(metric)
        if not hasattr(self.model, "used"):
            self._add_used()
        top = Var(domain=NonNegativeReals)
        setattr(self.model, f"worst_{j}", top)
        rows = ConstraintList()
        setattr(self.model, f"worst_rows_{j}", rows)
        for i, c in enumerate(self.candidates):
            rows.add(top >= c.metrics[j] * self.model.used[i])
        return top

    def _add_used(self) -> None:
        self.model.used = Var(range(len(self.candidates)), domain=Binary)
        self.model.used_rows = ConstraintList()
        most = self.space.problem.devices
        for i in self.model.x:
            self.model.used_rows.add(self.model.x[i] <= most * self.model.used[i])


def programme(
    space: Space, candidates: Sequence[Candidate], totals: Sequence[Total], serve_all: bool,
    barred: Mapping[Rule, Sequence[int]],
) -> Programme:  # fmt: skip
    """The programme over these candidates; `barred` are those that break a rule over shapes or latencies."""
    model = ConcreteModel()
    made = Programme(model, space, tuple(candidates))
    index = range(len(candidates))
    model.x = Var(index, domain=NonNegativeIntegers)
    model.y = Var(index, domain=NonNegativeReals)
    model.serves = Constraint(index, rule=lambda m, i: m.y[i] <= candidates[i].point.rate * m.x[i])
    model.some = Constraint(expr=quicksum(model.x[i] for i in index) >= 1)
    _add_machines(made)
    _add_load(made, serve_all)
    model.rules = ConstraintList()
    for total in totals:
        made.rules.setdefault(total.rule.text, []).append(model.rules.add(_compared(made.linear(total.linear), total.op)))
    for rule, members in barred.items():
        rows = [model.rules.add(quicksum(model.x[i] for i in members) <= 0)] if members else []
        made.rules.setdefault(rule.text, []).extend(rows)
    return made


def _compared(expr: Any, op: str) -> Any:
    return expr <= 0 if op == "<=" else expr >= 0 if op == ">=" else expr == 0


def _add_load(made: Programme, serve_all: bool) -> None:
    arrivals = made.space.problem.arrivals
    if arrivals is None:
        return
    served = quicksum(made.model.y[i] for i in made.model.y)
    made.model.at_most = Constraint(expr=served <= arrivals)
    if serve_all:
        made.model.all_served = Constraint(expr=served >= arrivals * (1 - 1e-9))


def _add_machines(made: Programme) -> None:
    model, classes = made.model, made.space.problem.classes
    cuts = {c: partitions(cls.size) for c, cls in enumerate(classes)}
    model.z = Var([(c, k) for c in cuts for k in range(len(cuts[c]))], domain=NonNegativeIntegers)
    model.machines = Constraint(
        list(cuts), rule=lambda m, c: quicksum(m.z[c, k] for k in range(len(cuts[c]))) <= classes[c].count
    )
    uses = _uses(made.candidates)
    model.parts = Constraint(
        sorted(uses),
        rule=lambda m, c, s: quicksum(n * m.x[i] for i, n in uses[c, s])
        <= quicksum(cut.count(s) * m.z[c, k] for k, cut in enumerate(cuts[c]) if s in cut),
    )


def _uses(candidates: Sequence[Candidate]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Class and size to the candidates that take such segments, and how many."""
    uses: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, candidate in enumerate(candidates):
        signature = candidate.signature
        for key in dict.fromkeys(signature):
            uses.setdefault(key, []).append((i, signature.count(key)))
    return uses


@cache
def partitions(size: int) -> tuple[tuple[int, ...], ...]:
    """The ways to write a number as a sum, parts in falling order."""
    return tuple(_partitions(size, size))


def _partitions(size: int, most: int) -> Iterator[tuple[int, ...]]:
    if size == 0:
        yield ()
    for part in range(min(size, most), 0, -1):
        yield from ((part, *rest) for rest in _partitions(size - part, part))
