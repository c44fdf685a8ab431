"""Which share of the requests each replica gets."""

from __future__ import annotations

from hexdsl.ir.plan import Plan, Route


def route(plan: Plan) -> Plan:
    """Shares out the requests by the load that `groups` gave each replica that takes new ones.

    A replica without load is there for a rule such as `replicas >= 2` only.  Needs `replicas`, gives `routes`.
    """
    loads = [r.rate_req_per_s for r in plan.entries]
    if not any(loads):
        # A load that rounds to nothing still needs somewhere to go.
        loads = [1.0] * len(loads)
    pairs = zip(plan.entries, loads, strict=True)
    return plan.with_(routes=tuple(Route(replica=r.name, weight=load / sum(loads)) for r, load in pairs))
