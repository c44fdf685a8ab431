"""What the GPUs in use cost."""

from __future__ import annotations

from hexdsl.ir.plan import Plan, Replica
from hexdsl.passes.serve.problem import problem_of


def price(plan: Plan) -> Plan:
    """Prices each replica and the plan by the hour; GPUs without a price count as free, and a note says so.

    Needs `replicas`, gives `cost`.
    """
    prices = {c.name: c.usd_per_h for c in problem_of(plan).classes}
    groups = {m.id: m.group for m in plan.machines}

    def cost(replica: Replica) -> float:
        return sum((prices[groups[s.machine]] or 0.0) * s.tp for s in replica.stages)

    replicas = tuple(r.with_(cost_usd_per_h=cost(r)) for r in plan.replicas)
    unpriced = sorted({groups[s.machine] for r in replicas for s in r.stages if prices[groups[s.machine]] is None})
    notes = (f"no price is known for {', '.join(unpriced)}: the cost leaves them out",) if unpriced else ()
    total = sum(r.cost_usd_per_h for r in replicas)
    return plan.with_(replicas=replicas, cost_usd_per_h=total, notes=(*plan.notes, *notes))
