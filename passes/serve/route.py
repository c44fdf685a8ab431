"""Which share of the requests each replica gets."""

from __future__ import annotations

from hexdsl.ir.plan import Plan, Route


def route(plan: Plan) -> Plan:
    """Shares out the requests by the load that `groups` gave each replica.

    A replica without load is there for a rule such as `replicas >= 2` only.  Needs `replicas`, gives `routes`.
    """
    total = sum(r.rate_req_per_s for r in plan.replicas)
    return plan.with_(routes=tuple(Route(replica=r.name, weight=r.rate_req_per_s / total) for r in plan.replicas))
