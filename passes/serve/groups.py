"""Which replicas there are: groups of GPUs, how each splits the model, and how many requests it takes."""

from __future__ import annotations

from hexdsl.ir.plan import Certificate, Decision, Plan
from hexdsl.passes.serve.build import busiest_first, replicas_of
from hexdsl.passes.serve.candidates import Space, space_of
from hexdsl.passes.serve.certify import CLOSE, gap
from hexdsl.passes.serve.decide import Decided, bound_of, decide
from hexdsl.passes.serve.goals import Aim, aims_of, require_figures, serves_all
from hexdsl.passes.serve.handover import share_out
from hexdsl.passes.serve.noplan import explain_misfit
from hexdsl.passes.serve.points import EVERY, light_layers
from hexdsl.passes.serve.predict import views_of
from hexdsl.passes.serve.problem import Problem, problem_of
from hexdsl.passes.serve.question import Question
from hexdsl.passes.serve.reasons import replica_decisions
from hexdsl.passes.serve.relaxation import QUICK, ROUNDS, Wanted, latency_bound, totals_bound
from hexdsl.passes.serve.rules import latencies_in, rules_of


def groups(plan: Plan) -> Plan:
    """Partitions the GPUs into replicas, each a pipeline of tensor-parallel groups.

    Up to 8 GPUs every shape of replica, every order of its stages and (up to 256) every number of running requests is
    considered, with the layers split for the quickest decoding at each, by an aggregated pattern formulation
    (`choose`); where latencies are asked for, a second search over what no split and no load undercuts bounds it.
    Beyond 8 GPUs only promising shapes are considered, and the bound is that of an independent relaxation
    (`relaxation`).  The goal of grouping, per-group parallelism and load shares follows HexGen-2 (section 3); uneven
    layers follow Parallax (section 4).  Needs `machines` and `precision`, gives `replicas`.
    """
    problem = problem_of(plan)
    rules, aims = rules_of(problem.serve), aims_of(problem.serve, problem)
    require_figures(problem.serve, rules, aims, problem)
    space = space_of(problem, latencies_in(rules, [a.metric for a in aims if a.metric is not None]))
    if not space.options:
        raise explain_misfit(problem)
    question = Question(space, rules, aims)
    decided = decide(question, plan.machines)
    picks = busiest_first(decided.picks)
    made = plan.with_(context=problem.context, replicas=replicas_of(picks, problem))
    if decided.served is not None:
        made = _with_handovers(made, problem, decided.served)
    reasons = replica_decisions([p.candidate for p in picks], made.replicas, question)
    return made.with_(
        certificates=(*plan.certificates, _certificate(question, decided, _reached(made, question, decided))),
        decisions=(*plan.decisions, *_decisions(problem, aims, space), *reasons),
        notes=(*plan.notes, *_notes(problem)),
    )


def _with_handovers(plan: Plan, problem: Problem, served: float) -> Plan:
    """The plan with its load shared out over the phases."""
    shared = share_out(plan, problem, served)
    loads = zip(plan.replicas, shared.loads, strict=True)
    replicas = tuple(r.with_(rate_req_per_s=min(load, r.capacity_req_per_s)) for r, load in loads)
    return plan.with_(replicas=replicas, handovers=shared.handovers)


def _reached(plan: Plan, question: Question, decided: Decided) -> float:
    """The first objective as the plan meets it: latencies at the load that each replica gets, not at its most."""
    aim, problem = question.aims[0], question.space.problem
    if aim.metric is None:
        return decided.value
    values = [(float(v.latency.value(aim.metric)), v.replica.rate_req_per_s) for v in views_of(plan, problem)]
    if aim.is_mean(problem):
        return sum(v * load for v, load in values) / sum(load for _, load in values)
    return max(v for v, _ in values)


def _certificate(question: Question, decided: Decided, objective: float) -> Certificate:
    """What is proved about the first objective."""
    space, aim = question.space, question.aims[0]
    bound = _bound(question, decided)
    reached = bound is not None and gap(objective, bound) <= CLOSE
    exact = space.complete and decided.proven and reached and _full(space.problem)
    shown = objective if bound is None or exact else bound
    return Certificate(
        of="groups",
        goal=aim.text,
        unit=aim.unit,
        objective=objective,
        bound=shown,
        gap=0.0 if exact else 1.0 if bound is None else gap(objective, bound),
        status="optimal" if exact or reached else "feasible" if decided.proven else "limit",
        method=_method(space, exact, bound),
        solver=decided.solutions[0].solver,
        work=sum(s.work for s in decided.solutions),
        exact=exact,
    )


def _bound(question: Question, decided: Decided) -> float | None:
    """What no plan beats in the first objective; None where nothing is known."""
    space, aim = question.space, question.aims[0]
    if space.complete and _full(space.problem) and question.faster:
        return bound_of(question) if space.named else decided.bound
    if aim.metric is not None:
        return latency_bound(space.problem, space.pricer, aim.metric)
    assert aim.linear is not None
    wanted = Wanted(
        space.problem, space.pricer, aim.linear, aim.sense, question.rules, question.serve_all, decided.value
    )
    again = space.problem.margins or not space.problem.apart  # the first search has bounded these plans too
    return totals_bound(wanted, QUICK if again else ROUNDS)


def _full(problem: Problem) -> bool:
    """Whether memory is counted exactly, every number of running requests is tried, and no phases lie apart."""
    return light_layers(problem) <= 1 and problem.engine.max_batch <= EVERY and not problem.phased


def _method(space: Space, exact: bool, bound: float | None) -> str:
    if exact:
        return f"mixed-integer programme over all shapes of replica ({space.size} operating points)"
    if space.complete:
        scope = f"all shapes of replica ({space.size} operating points), layers split for the quickest decoding"
    else:
        scope = f"{space.size} operating points of the most promising shapes"
    if bound is None:
        return f"mixed-integer programme over {scope}; no bound is known for this objective"
    relaxed = "every split of the layers and every load" if space.complete and space.named else "GPU time and memory"
    return f"mixed-integer programme over {scope}; bound from a relaxation over {relaxed}"


def _decisions(problem: Problem, aims: tuple[Aim, ...], space: Space) -> tuple[Decision, ...]:
    serve = problem.serve
    written = serve.context is not None
    reason = (
        "as the spec says" if written else "99.9 % of the load's prompts and answers fit; pin it with `context = ...`"
    )
    found = [Decision(by="groups", what="context", choice=f"{problem.context} tokens", reason=reason)]
    if not serve.objectives:
        text = f"no objective was given; pin it with `{aims[0].text}`"
        found.append(Decision(by="groups", what="objective", choice=aims[0].text, reason=text))
    if serves_all(aims, problem):
        text = f"all {problem.arrivals:g} requests/s that arrive must be served"
        found.append(
            Decision(by="groups", what="load", choice=text, reason="no objective is about how many are served")
        )
    scope = "every shape of replica was considered" if space.complete else "the most promising shapes were considered"
    found.append(Decision(by="groups", what="search", choice=f"{space.size} operating points", reason=scope))
    return tuple(found)


def _notes(problem: Problem) -> tuple[str, ...]:
    mean = float(problem.load.prompt) + problem.output  # type: ignore[arg-type]
    if mean <= problem.context:
        return ()
    return (
        f"an average request takes {mean:.0f} tokens, but the context is {problem.context}: "
        "longer requests are counted as cut off there",
    )
