"""What was second best, and why phases lie where they do: the programme with a combination forbidden, or forced.

Kinds k of replica: a role with what it takes from the inventory.  N_k(x), the replicas of kind k in a plan x; n_k those
of the best plan.
    another multiset of kinds      sum_k (b_k + a_k) >= 1,  b_k, a_k binary, with
                                   N_k(x) <= n_k - 1 + M (1 - b_k),  N_k(x) >= (n_k + 1) a_k      for n_k > 0
                                   sum over all other kinds of N_k(x) >= a_0
                                   (no-good cut over whole numbers; M the GPUs that there are)
    one replica does another phase N_k(x) <= n_k - 1,  N_k'(x) >= n_k' + 1  with k' the same machines in another role
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from hexdsl.ir.base import Ir, Rounded
from hexdsl.passes.serve.choose import Programme
from hexdsl.passes.serve.problem import Role
from hexdsl.passes.serve.what_if import Condition, Kind, Outcome, WhatIf, kind_words, members
from hexdsl.solve import Binary, Var, quicksum

ROLES: tuple[Role, ...] = ("both", "prefill", "decode")


class Second(Ir):
    """The best plan and the best one with other replicas; None where there is no other."""

    goal: str
    unit: str
    best: Outcome
    second: Outcome | None
    worse: Rounded | None
    """By how much the first objective is worse, in its base unit."""


def second_best(asked: WhatIf) -> Second:
    """The best plan whose replicas, counted by role and by what they take, are not those of the best plan."""
    found = asked.under(partial(another, asked.kinds))
    worse = None if found is None else max(0.0, -asked.gain(found.value))
    aim = asked.aim
    return Second(goal=aim.text, unit=aim.unit, best=asked.outcome, second=found, worse=worse)


def another(kinds: Mapping[Kind, int], made: Programme) -> None:
    """Forbids one multiset of kinds."""
    model, most = made.model, made.problem.devices
    known = sorted(kinds)
    model.fewer, model.more = Var(range(len(known)), domain=Binary), Var(range(len(known)), domain=Binary)
    model.other = Var(domain=Binary)
    for k, kind in enumerate(known):
        there = quicksum(model.x[i] for i in members(made, kind))
        made.add(there + most * model.fewer[k] <= kinds[kind] - 1 + most)
        made.add((kinds[kind] + 1) * model.more[k] <= there)
    rest = set(model.x) - {i for kind in known for i in members(made, kind)}
    made.add(model.other <= quicksum(model.x[i] for i in sorted(rest)))
    made.add(quicksum([*model.fewer.values(), *model.more.values(), model.other]) >= 1)


class Turned(Ir):
    """A replica's machines in another role: what they would serve, and the best plan in which one of them does."""

    role: str
    rate_req_per_s: Rounded | None
    """None where there is no load at which it meets the rules."""
    instead: Outcome | None
    worse: Rounded | None


class Phase(Ir):
    """Replicas of one kind: how many there are, what each does and serves at most, and what it would do otherwise."""

    names: tuple[str, ...]
    words: str
    role: str
    rate_req_per_s: Rounded
    others: tuple[Turned, ...]


class Phases(Ir):
    """Every kind of replica of a plan; `apart` says whether the spec lets the phases lie apart at all."""

    apart: bool
    unit: str
    goal: str
    best: Outcome
    phases: tuple[Phase, ...]


def phases_of(asked: WhatIf) -> Phases:
    """What each replica of the best plan would come to in the other roles."""
    apart, aim = asked.problem.phased, asked.aim
    found = tuple(_phase(asked, kind) for kind in asked.kinds) if apart else ()
    return Phases(apart=apart, unit=aim.unit, goal=aim.text, best=asked.outcome, phases=found)


def _phase(asked: WhatIf, kind: Kind) -> Phase:
    role, signature = kind
    return Phase(
        names=_names(asked, kind),
        words=kind_words(("both", signature), asked.problem),
        role=role,
        rate_req_per_s=_rate(asked, kind) or 0.0,
        others=tuple(_turned(asked, kind, (other, signature)) for other in ROLES if other != role),
    )


def _names(asked: WhatIf, kind: Kind) -> tuple[str, ...]:
    """The plan's replicas of this kind."""
    classes = {c.name: i for i, c in enumerate(asked.problem.classes)}
    found = []
    for replica in asked.plan.replicas:
        parts: dict[str, int] = {}
        for stage in replica.stages:
            parts[stage.machine] = parts.get(stage.machine, 0) + stage.tp
        signature = tuple(sorted((classes[asked.plan.machine(m).group], n) for m, n in parts.items()))
        if (replica.role, signature) == kind:
            found.append(replica.name)
    return tuple(found)


def _rate(asked: WhatIf, kind: Kind) -> float | None:
    """Requests/s of a replica of this kind at most, within the rules."""
    space = asked.lean.space
    rates = [float(o.points.rate.max()) for o in space.options if (o.points.role, o.points.shape.signature) == kind]
    return max(rates, default=None)


def _turned(asked: WhatIf, kind: Kind, other: Kind) -> Turned:
    rate = _rate(asked, other)
    found = None if rate is None else asked.under(turned(asked.kinds, kind, other))
    worse = None if found is None else -asked.gain(found.value)
    return Turned(role=other[0], rate_req_per_s=rate, instead=found, worse=worse)


def turned(kinds: Mapping[Kind, int], kind: Kind, other: Kind) -> Condition:
    """One replica of a kind is of another instead."""

    def condition(made: Programme) -> None:
        made.add(quicksum(made.model.x[i] for i in members(made, kind)) <= kinds[kind] - 1)
        made.add(quicksum(made.model.x[i] for i in members(made, other)) >= kinds.get(other, 0) + 1)

    return condition
