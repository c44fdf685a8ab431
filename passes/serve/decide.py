"""The best choice of replicas, objective by objective, and what bounds the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hexdsl.ir.plan import Machine
from hexdsl.passes.serve.between import Pair
from hexdsl.passes.serve.candidates import Candidate, Choice
from hexdsl.passes.serve.choose import Programme
from hexdsl.passes.serve.goals import Aim, expression, tie_breaks
from hexdsl.passes.serve.noplan import explain_limit, explain_no_plan
from hexdsl.passes.serve.overburdened import overburdened
from hexdsl.passes.serve.place import Cuts, Place, place
from hexdsl.passes.serve.question import Kept, Question
from hexdsl.solve import Goal, Solution, lexicographic

NEAR = 1e-5
"""Served requests within this share of all that could be served count as all: the solver's tolerance is no less."""


@dataclass(frozen=True)
class Pick:
    """A replica: what it is, where it lies, and the requests/s that it gets."""

    candidate: Candidate
    place: Place
    load: float


@dataclass(frozen=True)
class Decided:
    """The replicas, with the value of the first objective, what bounds it in the search, and how it was solved."""

    picks: tuple[Pick, ...]
    served: float | None
    """Requests/s where replicas of one phase are to share them out; None where the picks say it."""
    value: float
    bound: float | None
    proven: bool
    solutions: tuple[Solution, ...]


def decide(question: Question, machines: Sequence[Machine]) -> Decided:
    """The best replicas, placed.  Raises NoPlanError (P001) or LimitError (P006).

    Links between phases are heeded as they come to bind: without them the first solutions are only better.
    """
    heeded: frozenset[Pair] = frozenset()
    while True:
        outcome, first = _solve(replace(question, heeded=heeded))
        made = outcome.programme
        if beyond := overburdened(made) - heeded:
            heeded |= beyond
            continue
        chosen = [c for c, n in zip(made.candidates, _counts(made), strict=True) for _ in range(n)]
        places = place([c.shape for c in chosen], _cuts(made), machines, made.problem)
        if places is not None:
            picks = tuple(Pick(*p) for p in zip(chosen, places, _loads(made, chosen), strict=True))
            apart = any(c.role != "both" for c in chosen)
            served = _served(made, chosen) if apart else None
            return Decided(picks, served, first.value, first.bound, first.proven, outcome.solutions)
        together = Counter(c.shape.signature for c in chosen)
        question = replace(question, unplaceable=(*question.unplaceable, together))


def bound_of(question: Question) -> float | None:
    """What no plan beats in the first objective, over every split of the layers and every load."""
    ideal = question.space.meeting(question.rules, ideal=True)
    aim = question.aims[0]
    if aim.metric is not None and aim not in _linear(question):
        return question.least(ideal, aim.metric)
    solved = question.optimum(ideal, aim, aim.direction)
    return None if solved is None else solved.bound


def _linear(question: Question) -> tuple[Aim, ...]:
    """The objectives that the programme can optimise: all but latencies of the worst replica."""
    return tuple(a for a in question.aims if a.metric is None or a.is_mean(question.space.problem))


@dataclass(frozen=True)
class _Outcome:
    """A programme with its last solution loaded; what its objectives reached, and the bound of the first of them."""

    programme: Programme
    solutions: tuple[Solution, ...]
    kept: tuple[Kept, ...]
    bound: float | None


def _solve(question: Question) -> tuple[_Outcome, _First]:
    """Objectives in order: a latency of the worst replica bars the replicas that exceed its least limit."""
    choice, pending, first = question.space.meeting(question.rules), list[Aim](), None
    for aim in question.aims:
        if aim in _linear(question):
            pending.append(aim)
            continue
        if pending:
            outcome = _optimise(question, choice, pending, tie=False)
            first = first or _first(outcome)
            question, pending = question.keeping(*outcome.kept), []
        assert aim.metric is not None
        limit = question.least(choice, aim.metric)
        if limit is None:
            raise explain_no_plan(question)
        first = first or _First(limit, limit, proven=True)
        choice = choice.where(question.space.at_most(aim.metric, limit))
    outcome = _optimise(question, choice, pending, tie=True)
    return outcome, first or _first(outcome)


@dataclass(frozen=True)
class _First:
    """What the first objective reached, its bound within the search, and whether the search went to its end."""

    value: float
    bound: float | None
    proven: bool


def _first(outcome: _Outcome) -> _First:
    return _First(outcome.kept[0].value, outcome.bound, outcome.solutions[0].status == "optimal")


def _optimise(question: Question, choice: Choice, aims: Sequence[Aim], tie: bool) -> _Outcome:
    made = question.programme(choice)
    if made is None:
        raise explain_no_plan(question)
    forms = [expression(aim, made, question.column(aim)) for aim in aims]
    goals = [Goal(f.expression, a.direction, a.text) for f, a in zip(forms, aims, strict=True)]
    solutions = lexicographic(
        made.model, [*goals, *(tie_breaks(made, question.serve_all) if tie else ())], question.limits
    )
    if not solutions[0].found:
        raise explain_no_plan(question) if solutions[0].status == "infeasible" else explain_limit(solutions[0])
    reached = zip(aims, solutions, forms, strict=False)
    kept = tuple(Kept(a, s.objective * f.scale) for a, s, f in reached if s.objective is not None)
    bound = solutions[0].bound
    return _Outcome(made, solutions, kept, None if bound is None or not forms else bound * forms[0].scale)


def _counts(made: Programme) -> list[int]:
    return [round(made.model.x[i].value) for i in made.model.x]


def _cuts(made: Programme) -> Cuts:
    """How the programme cuts the machines of each class."""
    found: list[list[tuple[int, ...]]] = [[] for _ in made.problem.classes]
    for (c, k), variable in sorted(made.model.z.items()):
        found[c] += [made.cuts[c][k]] * round(variable.value or 0)
    return found


def _loads(made: Programme, chosen: Sequence[Candidate]) -> list[float]:
    """Requests/s of each replica: its capacity where the load is not limited; else its share of what is served.

    Shares are by capacity, so that all are equally busy, unless a mean latency is an objective and the programme has
    chosen them.
    """
    rates = [c.rate for c in chosen]
    if made.problem.arrivals is None:
        return rates
    most = min(made.problem.arrivals, sum(rates))
    served = min(most, float(made.model.served.value) * made.unit)
    if served >= most * (1 - NEAR):
        served = most
    shares = _chosen_shares(made, chosen) if made.shares else rates
    total = sum(shares)
    return [min(r, served * s / total) if total else 0.0 for r, s in zip(rates, shares, strict=True)]


def _served(made: Programme, chosen: Sequence[Candidate]) -> float:
    """Requests/s that the programme serves with replicas of which some do one phase only."""
    rates = [c.rate for c in chosen if c.role == "both"]
    most = sum(rates) + sum(float(v.value or 0.0) for v in made.model.handed.values()) * made.unit
    if made.problem.arrivals is None:
        return most
    most, served = min(made.problem.arrivals, most), float(made.model.served.value) * made.unit
    return most if served >= most * (1 - NEAR) else min(most, served)


def _chosen_shares(made: Programme, chosen: Sequence[Candidate]) -> list[float]:
    """The programme's loads; equal replicas share theirs evenly."""
    counts = _counts(made)
    each = {c: max(0.0, made.model.y[i].value or 0.0) / counts[i] for i, c in enumerate(made.candidates) if counts[i]}
    return [each[c] for c in chosen]
