"""The handovers of a programme's candidates: flows from prefill to decode replicas by place.

With k_KK' the requests/s that fit on the link between two replicas at places K and K', and r the quickest candidate of
a side at a place, a link with k_KK' >= r never binds: a replica gives and takes no more than it serves.  Places of a
side that differ in no link but such are taken as one, which leaves a flow, and its limits, for each pair of those only.
Links that bind are many where they are slow, and few of them matter: a search may begin with none and take in those
that its solutions overburden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from hexdsl.passes.serve.candidates import Candidate
from hexdsl.passes.serve.handover import Place, most_handed, place_of
from hexdsl.passes.serve.problem import Problem

Pair = tuple[Place, Place]
"""Where a request is prefilled, and where it is decoded."""

Members = tuple[int, ...]
"""Candidates by number."""


@dataclass(frozen=True)
class Between:
    """Sides as groups of candidates, and the requests/s between two replicas of a pair of groups (by position)."""

    first: tuple[Members, ...]
    then: tuple[Members, ...]
    most: Mapping[tuple[int, int], float]


def between(problem: Problem, candidates: Sequence[Candidate], heeded: frozenset[Pair] | None = None) -> Between:
    """Who may hand over to whom.  Pairs without a way are left out; links that never bind are infinite.

    Of the others only those of `heeded` count where it is given.
    """
    first, then = (_by_place(candidates, role) for role in ("prefill", "decode"))
    fastest = [{p: max(candidates[i].rate for i in who) for p, who in side.items()} for side in (first, then)]
    most = {(a, b): most_handed(problem, a, b) for a in first for b in then}

    def binds(a: Place, b: Place) -> bool:
        return (heeded is None or (a, b) in heeded) and most[a, b] < max(fastest[0][a], fastest[1][b])

    free = {pair: k if k == 0 or binds(*pair) else math.inf for pair, k in most.items()}

    def told_by(a: Place, b: Place) -> Hashable:
        return free[a, b] if free[a, b] in (0.0, math.inf) else (a, b)

    left = _merged(first, lambda a: tuple(told_by(a, b) for b in then))
    right = _merged(then, lambda b: tuple(told_by(a, b) for a in first))
    pairs = {(i, j): free[a, b] for i, a in enumerate(left) for j, b in enumerate(right) if free[a, b] > 0}
    return Between(tuple(left.values()), tuple(right.values()), pairs)


def _merged(side: Mapping[Place, Members], told_by: Callable[[Place], Hashable]) -> dict[Place, Members]:
    """Places that are told by the same as one, under the name of the first."""
    found: dict[Hashable, Place] = {}
    merged: dict[Place, Members] = {}
    for place, members in side.items():
        name = found.setdefault(told_by(place), place)
        merged[name] = (*merged.get(name, ()), *members)
    return merged


def _by_place(candidates: Sequence[Candidate], role: str) -> dict[Place, Members]:
    """The candidates of a role at each place where there are any."""
    found: dict[Place, Members] = {}
    for i, candidate in enumerate(candidates):
        if candidate.role == role:
            place = place_of(candidate.shape)
            found[place] = (*found.get(place, ()), i)
    return dict(sorted(found.items()))
