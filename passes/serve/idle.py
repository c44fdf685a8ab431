"""Why GPUs are unused: what the best plan that uses one more of a class comes to, or why no replica can be made there.

With u_c GPUs of class c in the best plan, the programme is solved again with  sum_p u_{p,c} x_p >= u_c + 1.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from hexdsl.costs.memory import Slice, budget_bytes, weight_bytes
from hexdsl.ir.base import Ir, Rounded
from hexdsl.passes.serve.choose import Programme
from hexdsl.passes.serve.what_if import Condition, Outcome, WhatIf
from hexdsl.solve import quicksum

Reason = Literal["worse", "equal", "rules", "memory", "links"]
"""`worse`: plans that use one more are worse; `equal`: as good but for cost and such; `rules`: none meets the rules;
`memory`: no group of these GPUs holds the model; `links`: there is memory enough, but still no replica."""


LOOKED = 12
"""Groups that are looked into: those with most unused GPUs."""


class Idle(Ir):
    """The unused GPUs of a group of machines."""

    group: str
    gpu: str
    unused: int
    of: int
    reason: Reason
    instead: Outcome | None = None
    worse: Rounded | None = None
    weights_bytes: float = 0.0
    """Of one copy of the model, as these GPUs hold it."""
    room_bytes: float = 0.0
    """What all GPUs of the group leave for weights, activations and KV cache."""


class Unused(Ir):
    """What is unused, by group; `full` says that the load is served in full."""

    goal: str
    unit: str
    best: Outcome
    served_in_full: bool
    idle: tuple[Idle, ...]
    more: int
    """Further groups with unused GPUs, which are not looked into."""


def unused(asked: WhatIf) -> Unused:
    """The groups with unused GPUs, and why."""
    used, problem, aim = used_by_class(asked), asked.problem, asked.aim
    left = {c: n for c, cls in enumerate(problem.classes) if (n := cls.count * cls.size - used[c]) > 0}
    looked = sorted(sorted(left, key=lambda c: (-left[c], c))[:LOOKED])
    found = (_idle(asked, c, used[c]) for c in looked)
    arrivals = problem.arrivals
    full = arrivals is not None and asked.outcome.served_req_per_s >= arrivals * (1 - 1e-5)
    return Unused(
        goal=aim.text,
        unit=aim.unit,
        best=asked.outcome,
        served_in_full=full,
        idle=tuple(found),
        more=len(left) - len(looked),
    )


def used_by_class(asked: WhatIf) -> Counter[int]:
    """GPUs of each class in the best plan."""
    used: Counter[int] = Counter()
    for pick in asked.now.picks:
        for c, n in pick.candidate.shape.signature:
            used[c] += n
    return used


def _idle(asked: WhatIf, c: int, used: int) -> Idle:
    problem, cls = asked.problem, asked.problem.classes[c]
    total = cls.count * cls.size
    instead = asked.under(at_least(c, used + 1))
    worse = None if instead is None else -asked.gain(instead.value)
    return Idle(
        group=cls.name,
        gpu=cls.gpu.name,
        unused=total - used,
        of=total,
        reason=_reason(asked, c, worse),
        instead=instead,
        worse=worse,
        weights_bytes=float(weight_bytes(problem.arch, cls.formats, Slice(0, problem.arch.layers))),
        room_bytes=total * max(0.0, budget_bytes(cls.gpu, 1, problem.engine)),
    )


def _reason(asked: WhatIf, c: int, worse: float | None) -> Reason:
    if worse is not None:
        return "worse" if worse > 1e-5 * abs(asked.now.value) else "equal"
    if any(k == c for o in asked.question.space.options for k, _ in o.points.shape.signature):
        return "rules"
    problem, cls = asked.problem, asked.problem.classes[c]
    need = float(weight_bytes(problem.arch, cls.formats, Slice(0, problem.arch.layers)))
    return "memory" if need > cls.count * cls.size * max(0.0, budget_bytes(cls.gpu, 1, problem.engine)) else "links"


def at_least(c: int, gpus: int) -> Condition:
    """So many GPUs of a class are in use."""

    def condition(made: Programme) -> None:
        takes = [sum(n for k, n in p.shape.signature if k == c) for p in made.candidates]
        made.add(quicksum(n * made.model.x[i] for i, n in enumerate(takes) if n) >= gpus)

    return condition
