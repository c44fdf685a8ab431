"""From a simulation that broke rules to what the next search keeps clear of the model's figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from hexdsl.ir.diagnostic import Diagnostic, Label, NoPlanError
from hexdsl.ir.plan import Decision, Margin, Plan, RuleCheck
from hexdsl.ir.spec.rule import Metric, Rule, holds, metrics_in
from hexdsl.passes.serve.certify import CLOSE, rebounded
from hexdsl.passes.serve.metrics import LATENCIES
from hexdsl.passes.serve.predict import View, views_of
from hexdsl.passes.serve.problem import kind_named, problem_of
from hexdsl.passes.serve.rules import written_rules

SLACK = 1.02
"""What a margin is more than the ratio that was seen, so that the next plan does not miss by a hair."""

LEAST, MOST = 1.05, 1.3
"""Bounds of the factor by which a margin grows at a time."""


PLENTY = 2.0
"""Margin of capacity at which first tokens hardly wait for each other."""

STEP = 1.08
"""Factor by which the margin of capacity grows at least."""

TRIES, BISECTIONS = 12, 2
"""Searches with wider margins before the planner gives up, and with narrower ones once one holds."""


Search = Callable[[tuple[Margin, ...]], Plan]
"""The best plan with these margins.  Raises NoPlanError."""


def held_by_simulation(search: Search, at_least: Plan | None = None) -> Plan:
    """A plan whose simulation breaks no rule, searched for with margins that grow until one holds, and then shrink.

    `at_least` is a plan that holds: it is returned where what is found with some margins is no better, since wider
    ones only make it worse.
    Raises NoPlanError: that of the first search, or P014 where plans are found but none holds in the simulation.
    """
    first = plan = search(())
    if not broken_rules(first):
        return first
    for _ in range(TRIES):
        if at_least is not None and not better(plan, at_least):
            return at_least
        before, margins = plan.margins, wider_margins(plan)
        try:
            plan = search(margins)
        except NoPlanError as error:
            raise broken_in_simulation(plan) from error
        if not broken_rules(plan):
            return _explained(_narrowed(plan, before, search), first)
    raise broken_in_simulation(plan)


def better(plan: Plan, other: Plan) -> bool:
    """Whether a plan comes to more in the first objective than another of the same workflow."""
    ours, theirs = plan.certificates[0], other.certificates[0]
    more = (ours.objective - theirs.objective) * (1 if ours.goal.startswith("maximize") else -1)
    return more > CLOSE * abs(theirs.objective)


def _narrowed(plan: Plan, broke: tuple[Margin, ...], search: Search) -> Plan:
    """The plan that holds with the least margins, by bisection between those and margins that were too small."""
    small = _factors(broke)
    for _ in range(BISECTIONS):
        middle = tuple(m.with_(factor=math.sqrt(m.factor * small.get((m.of, m.kind), 1.0))) for m in plan.margins)
        found = search(middle)
        if broken_rules(found):
            small = _factors(middle)
        else:
            plan = found
    return plan


def _factors(margins: tuple[Margin, ...]) -> dict[tuple[str, str], float]:
    return {(m.of, m.kind): m.factor for m in margins}


def _explained(plan: Plan, first: Plan) -> Plan:
    """The plan with the reason for its margins, and the first search's bounds, which hold without any."""
    reason = "; ".join(f"in the simulation of the plan without it, {came_to(r)}" for r in broken_rules(first))
    choices = ", ".join(f"{m.of} of {m.kind} x {m.factor:.3g}" for m in plan.margins)
    decision = Decision(by="simulate", what="margins", choice=choices, reason=reason)
    bounds = {c.of: c for c in first.certificates}
    proved = tuple(rebounded(c, bounds[c.of]) if c.of in bounds else c for c in plan.certificates)
    return plan.with_(decisions=(*plan.decisions, decision), certificates=proved)


def broken_rules(plan: Plan) -> tuple[RuleCheck, ...]:
    """The rules that the plan's simulation broke."""
    return tuple(r for r in plan.simulation.rules if not r.holds) if plan.simulation else ()


def wider_margins(plan: Plan) -> tuple[Margin, ...]:
    """The plan's margins, wider for its kinds of replica where its simulation broke a rule.

    First tokens mostly wait for lack of capacity, so that its margin is tried first; for other latencies, and where
    plenty of capacity has not helped, the model was too low by as much as the simulation came to more.
    """
    known = _factors(plan.margins)
    views = _by_kind(plan, views_of(plan, problem_of(plan)))
    # A rule may break over all requests where it holds on every replica, by a hair: then all have to give.
    everyone = (("capacity", kind, STEP * known.get(("capacity", kind), 1.0)) for kind, _ in views)
    for of, kind, ratio in tuple(_ratios(plan, known)) or everyone:
        before = known.get((of, kind), 1.0)
        known[of, kind] = before * min(MOST, max(LEAST, ratio * SLACK / before))
    return tuple(Margin(of=of, kind=kind, factor=known[of, kind]) for of, kind in sorted(known))


def _ratios(plan: Plan, known: Mapping[tuple[str, str], float]) -> Iterator[tuple[str, str, float]]:
    """What needs a margin, for which replicas, and how wide it must be at least."""
    problem = problem_of(plan)
    found = _figures(plan)
    texts = {r.text for r in broken_rules(plan)}
    rules = [r for r in written_rules(problem.serve) if r.text in texts]
    named = tuple(dict.fromkeys(m for r in rules for m in metrics_in(r.expr)))
    first = [m for m in named if m.name == "ttft"]
    rates = len(rules) < len(texts) or any(m.name not in LATENCIES for m in named)
    planned = plan.served_req_per_s
    piled = max(1.0, planned / max(found[str(Metric(name="goodput"))], planned / MOST))
    for kind, views in _by_kind(plan, views_of(plan, problem)):
        capacity = known.get(("capacity", kind), 1.0)
        waits = first if capacity < PLENTY else []
        for metric in (m for m in named if m.name in LATENCIES and m not in waits):
            predicted = max(float(v.latency.value(metric)) for v in views)
            worst = _worst(plan, views, metric) or found[str(metric)]
            if predicted > 0 and worst > predicted:
                yield str(metric), kind, worst / predicted
        if rates or any(_guilty(rule, _worst(plan, views, m)) for rule in rules for m in waits):
            yield "capacity", kind, STEP * capacity * piled


def _worst(plan: Plan, views: Sequence[View], metric: Metric) -> float | None:
    """What a latency came to on the worst of some replicas; None where requests end elsewhere."""
    assert plan.simulation is not None
    names = {v.replica.name for v in views}
    seen = (r.latencies.get(str(metric)) for r in plan.simulation.replicas if r.replica in names)
    return max((x for x in seen if x is not None), default=None)


def _guilty(rule: Rule, worst: float | None) -> bool:
    """Whether a value is beyond a rule's limit, or may be."""
    return worst is None or not holds(rule.expr, lambda _: worst)


def _by_kind(plan: Plan, views: Sequence[View]) -> Iterator[tuple[str, list[View]]]:
    """The plan's replicas by their kind."""
    found: dict[str, list[View]] = {}
    for view in views:
        counts: Counter[str] = Counter()
        for stage in view.replica.stages:
            counts[plan.machine(stage.machine).group] += stage.tp
        found.setdefault(kind_named(counts, view.replica.role), []).append(view)
    yield from sorted(found.items())


def _figures(plan: Plan) -> dict[str, float]:
    assert plan.simulation is not None
    return {f.metric: f.mean for f in plan.simulation.figures}


def broken_in_simulation(plan: Plan) -> NoPlanError:
    """The refusal (P014) of a plan that holds in the model but not in the simulation: which lines, and by how much."""
    spans = {r.text: r.span for r in written_rules(problem_of(plan).serve)}
    broken = broken_rules(plan)
    notes = tuple(f"in the simulation {came_to(r)}" for r in broken)
    labels = tuple(Label(spans[r.text]) for r in broken if r.text in spans)
    message = "every plan that was found breaks a rule when the load is simulated"
    help_ = "add machines, lower the load, or loosen the rule to what it comes to"
    return NoPlanError([Diagnostic("P014", message, labels, help_, notes=notes)])


def came_to(rule: RuleCheck) -> str:
    """What a rule came to, beside its limit."""
    if rule.value is None or rule.limit is None:
        return f"`{rule.text}` does not hold"
    return f"`{rule.text}` comes to {rule.value:.4g}{rule.unit}, the limit is {rule.limit:.4g}{rule.unit}"
