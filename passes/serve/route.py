"""Which share of the requests each replica gets."""

from __future__ import annotations

from hexdsl.ir.plan import Plan, Route


def route(plan: Plan) -> Plan:
    """Shares out the requests by the load that the flow gives each replica; without arrivals, by capacity.

    A replica that the plan keeps but gives no load is only there for a rule such as `replicas >= 2`; it then
    gets its share by capacity like the others.  Needs `replicas`, gives `routes`.
    """
    loads = [r.rate_req_per_s for r in plan.replicas]
    if not all(load > 0 for load in loads):
        loads = [r.capacity_req_per_s for r in plan.replicas]
    total = sum(loads)
    routes = (Route(replica=r.name, weight=load / total) for r, load in zip(plan.replicas, loads, strict=True))
    return plan.with_(routes=tuple(routes))
