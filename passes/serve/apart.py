"""Naming phases allows them to lie apart, and must never make a plan worse."""

from __future__ import annotations

from collections.abc import Callable

from hexdsl.ir.diagnostic import NoPlanError
from hexdsl.ir.plan import Decision, Plan
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.serve.certify import CLOSE, gap, rebounded


def apart_or_together(first: Plan, held: Callable[[Plan], Plan]) -> Plan:
    """The better of the plans that `held` makes of an empty one: with phases apart allowed, and with them together.

    A search that may put phases apart considers both; but where its plans need margins after their simulation, one
    with phases together may come to more.  Raises NoPlanError as the first search does where neither finds a plan.
    """
    serve = first.workflow
    if not (isinstance(serve, Serve) and (serve.phase or serve.edges)):
        return held(first)
    apart = _tried(held, first)
    if isinstance(apart, Plan) and not apart.margins:
        return apart
    together = _tried(held, first.with_(apart=False))
    if isinstance(apart, Plan):
        return _chosen(apart, together)
    if isinstance(together, Plan):
        return _said(together, "with phases apart, no plan holds in the simulation")
    raise apart


def _tried(held: Callable[[Plan], Plan], first: Plan) -> Plan | NoPlanError:
    try:
        return held(first)
    except NoPlanError as error:
        return error


def _chosen(apart: Plan, together: Plan | NoPlanError) -> Plan:
    """The plan with phases together only where it is the better one; its bound is that over all plans."""
    if isinstance(together, NoPlanError):
        return apart
    ours, theirs = together.certificates[0], apart.certificates[0]
    more = (ours.objective - theirs.objective) * (1 if ours.goal.startswith("maximize") else -1)
    if more <= CLOSE * abs(theirs.objective):
        return apart
    proved = (rebounded(ours, theirs), *together.certificates[1:])
    worse = gap(ours.objective, theirs.objective)
    reason = f"with phases apart, what holds in the simulation is {worse:.0%} worse"
    return _said(together.with_(certificates=proved), reason)


def _said(plan: Plan, reason: str) -> Plan:
    decision = Decision(by="simulate", what="phases", choice="together on every replica", reason=reason)
    return plan.with_(decisions=(*plan.decisions, decision))
