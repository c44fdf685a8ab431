"""Which replicas there are: groups of GPUs, how each splits the model, and how many requests it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hexdsl.ir.plan import Certificate, Decision, Plan
from hexdsl.passes.serve.build import replicas_of
from hexdsl.passes.serve.candidates import Candidate, Space, latency_metrics, space_of, worthwhile
from hexdsl.passes.serve.choose import Programme, partitions, programme
from hexdsl.passes.serve.goals import Aim, aims_of, goals_of, require_figures, serves_all
from hexdsl.passes.serve.noplan import explain_limit, explain_misfit, explain_no_plan
from hexdsl.passes.serve.problem import Problem, problem_of
from hexdsl.passes.serve.relaxation import latency_bound, totals_bound
from hexdsl.passes.serve.rules import Rules, rules_of
from hexdsl.solve import Limits, Solution, lexicographic

LIMITS = Limits(max_nodes=200_000, rel_gap=1e-6, time_s=120)
WIDE_LIMITS = Limits(max_nodes=2_000, rel_gap=1e-3, time_s=60)
"""On large inventories the shapes are not complete anyway, and the bound comes from the relaxation."""


@dataclass(frozen=True)
class Chosen:
    """What the programme decided: candidates with how many replicas and which load each has, and the cuts."""

    picks: tuple[tuple[Candidate, int, float], ...]
    cuts: tuple[tuple[tuple[int, ...], ...], ...]
    solutions: tuple[Solution, ...]


def groups(plan: Plan) -> Plan:
    """Partitions the GPUs into replicas, each a pipeline of tensor-parallel groups.

    Exact over the enumerated shapes by an aggregated pattern formulation (`choose`), which are all shapes up to
    8 GPUs; beyond that the certificate's bound is that of an independent relaxation (`relaxation`).  The goal of
    grouping, per-group parallelism and load shares follows HexGen-2 (section 3); uneven layers follow Parallax
    (section 4).  Needs `machines` and `precision`, gives `replicas`.
    """
    problem = problem_of(plan)
    rules, aims = rules_of(problem.serve), aims_of(problem.serve, problem)
    require_figures(problem.serve, rules, aims, problem)
    named = latency_metrics(rules.point, [a.metric for a in aims if a.metric is not None])
    space = space_of(problem, named)
    if not space.candidates:
        raise explain_misfit(problem)
    chosen = decide(space, rules, aims)
    return plan.with_(
        context=problem.context,
        replicas=replicas_of(chosen.picks, chosen.cuts, plan.machines, space),
        certificates=(*plan.certificates, _certificate(aims[0], chosen.solutions, space, rules, aims)),
        decisions=(*plan.decisions, *_decisions(problem, aims, space)),
    )


def decide(space: Space, rules: Rules, aims: tuple[Aim, ...]) -> Chosen:
    """The best choice of replicas.  Raises NoPlanError (P001) or LimitError (P006)."""
    filters = (*rules.shape, *rules.point)
    good = [c for c in space.candidates if all(space.holds(rule, c) for rule in filters)]
    serve_all = serves_all(aims, space.problem)
    if not good:
        raise explain_no_plan(space, rules, serve_all)
    kept = [good[i] for i in worthwhile(good, [()] * len(good))]
    made = programme(space, kept, rules.total, serve_all, {})
    solutions = lexicographic(made.model, tuple(goals_of(aims, made)), LIMITS if space.complete else WIDE_LIMITS)
    if not solutions[0].found:
        raise explain_no_plan(space, rules, serve_all) if solutions[0].status == "infeasible" else explain_limit(solutions[0])
    return Chosen(_picks(made), _cuts(made), solutions)


def _picks(made: Programme) -> tuple[tuple[Candidate, int, float], ...]:
    x, y = made.model.x, made.model.y
    return tuple((c, int(x[i].value), float(y[i].value or 0.0)) for i, c in enumerate(made.candidates) if x[i].value)


def _cuts(made: Programme) -> tuple[tuple[tuple[int, ...], ...], ...]:
    z, classes = made.model.z, made.space.problem.classes
    return tuple(
        tuple(cut for k, cut in enumerate(partitions(cls.size)) for _ in range(int(z[c, k].value or 0)))
        for c, cls in enumerate(classes)
    )


def _certificate(
    aim: Aim, solutions: Sequence[Solution], space: Space, rules: Rules, aims: tuple[Aim, ...]
) -> Certificate:
    first = solutions[0]
    objective = float(first.objective or 0.0)
    exact = space.complete and first.status == "optimal"
    bound = first.bound if exact else _bound(aim, space, rules, aims)
    return Certificate(
        of="groups",
        goal=aim.text,
        objective=objective,
        bound=objective if bound is None else bound,
        gap=0.0 if exact else 1.0 if bound is None else gap(objective, bound),
        status="optimal" if exact else "feasible" if first.status == "optimal" else "limit",
        method=_method(space, exact, bound),
        solver=first.solver,
        work=sum(s.work for s in solutions),
        exact=exact,
    )


def gap(objective: float, bound: float) -> float:
    """Relative distance of an objective from its bound."""
    return abs(objective - bound) / max(abs(objective), abs(bound), 1e-12)


def _method(space: Space, exact: bool, bound: float | None) -> str:
    n = len(space.candidates)
    if exact:
        return f"mixed-integer programme over all shapes of replica ({n} operating points)"
    told = "no bound is known for this objective" if bound is None else "bound from a relaxation over GPU time and memory"
    return f"mixed-integer programme over {n} operating points of the most promising shapes; {told}"


def _bound(aim: Aim, space: Space, rules: Rules, aims: tuple[Aim, ...]) -> float | None:
    if aim.metric is not None:
        return latency_bound(space.problem, space.pricer, aim.metric)
    assert aim.linear is not None
    return totals_bound(space.problem, aim.linear, aim.sense, rules.total, serves_all(aims, space.problem))


def _decisions(problem: Problem, aims: tuple[Aim, ...], space: Space) -> tuple[Decision, ...]:
    serve = problem.serve
    written = serve.context is not None
    reason = "as the spec says" if written else "99.9 % of the load's prompts and answers fit; pin it with `context = ...`"
    found = [Decision(by="groups", what="context", choice=f"{problem.context} tokens", reason=reason)]
    if not serve.objectives:
        text = f"no objective was given; pin it with `{aims[0].text}`"
        found.append(Decision(by="groups", what="objective", choice=aims[0].text, reason=text))
    if serves_all(aims, problem):
        text = f"all {problem.arrivals:g} requests/s that arrive must be served"
        found.append(Decision(by="groups", what="load", choice=text, reason="no objective is about how many are served"))
    scope = "every shape of replica was considered" if space.complete else "the most promising shapes were considered"
    found.append(Decision(by="groups", what="search", choice=f"{len(space.candidates)} operating points", reason=scope))
    return tuple(found)


