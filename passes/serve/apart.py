"""Naming phases allows them to lie apart, and must never make a plan worse."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Decision, Plan
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.certify import gap, rebounded
from hexdsl.passes.serve.margins import Search, better, broken_rules, held_by_simulation
from hexdsl.passes.serve.problem import problem_of


def apart_or_together(first: Plan, search_from: Callable[[Plan], Search]) -> Plan:
    """The better of the plans made of an empty one: with phases apart allowed, and with them together.

    A search that may put phases apart considers both; but where its plans need margins after their simulation, one
    with phases together may come to more.  Raises NoPlanError as the first search does where neither finds a plan.
    """
    serve, search = first.workflow, cache(search_from(first))
    if not (isinstance(serve, Serve) and (serve.phase or serve.edges)):
        return held_by_simulation(search)
    free = _tried(lambda: search(()))
    if isinstance(free, Plan) and not broken_rules(free) and _came_to(free) >= KEPT * free.certificates[0].objective:
        return free
    together = _tried(lambda: held_by_simulation(search_from(first.with_(apart=False))))
    if isinstance(together, NoPlanError):
        return held_by_simulation(search)
    if isinstance(free, NoPlanError):
        return _said(together, "with phases apart, no plan was found")
    apart = _tried(lambda: held_by_simulation(search, together))
    if isinstance(apart, Plan) and better(apart, together) and not _less(apart, together):
        return apart
    return _said(_proved(together, free), _why(apart, together))


KEPT = 0.9
"""Share of a promised rate that the simulation must come to for a plan to be taken without looking further."""


def _came_to(plan: Plan) -> float:
    """What a rate came to in the simulation of a saturated plan; its objective otherwise."""
    aim = plan.certificates[0]
    if plan.simulation is None or problem_of(plan).arrivals is not None:
        return aim.objective
    seen = {f"maximize {f.metric}": f.mean for f in plan.simulation.figures if f.unit == aim.unit}
    return seen.get(aim.goal, aim.objective)


def _less(apart: Plan, together: Plan) -> bool:
    """Whether the simulation says so although the model says more."""
    return _came_to(apart) < KEPT * apart.certificates[0].objective and _came_to(apart) < _came_to(together)


def _tried(make: Callable[[], Plan]) -> Plan | NoPlanError:
    try:
        return make()
    except NoPlanError as error:
        return error


def _proved(together: Plan, free: Plan) -> Plan:
    """The plan with the bound over all plans."""
    bound, *_ = free.certificates
    first, *rest = together.certificates
    return together.with_(certificates=(rebounded(first, bound), *rest))


def _why(apart: Plan | NoPlanError, together: Plan) -> str:
    if isinstance(apart, NoPlanError):
        return "with phases apart, no plan holds in the simulation"
    if apart is together:
        return "with phases apart, no plan that holds in the simulation can come to more"
    if better(apart, together):
        return f"with phases apart, the simulation comes to {_came_to(apart):.4g}, with them together to more"
    worse = gap(together.certificates[0].objective, apart.certificates[0].objective)
    return f"with phases apart, what holds in the simulation is {worse:.0%} worse"


def _said(plan: Plan, reason: str) -> Plan:
    decision = Decision(by="simulate", what="phases", choice="together on every replica", reason=reason)
    return plan.with_(decisions=(*plan.decisions, decision))
