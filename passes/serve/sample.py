"""A part of a large plan that stands for all of it in a simulation: replicas do not know of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hexdsl.ir.plan import Plan, Replica


@dataclass(frozen=True)
class Sample:
    """Some replicas of a plan, each kind in its proportion but at least once, and the share of the load they take."""

    plan: Plan
    share: float

    @property
    def note(self) -> str:
        return f"{len(self.plan.replicas)} replicas stand for all of their kinds, with {self.share:.1%} of the load"


def sample_of(plan: Plan, share: float) -> Sample:
    """About this share of the replicas; all of them where it is 1."""
    if share >= 1:
        return Sample(plan, 1.0)
    kept = tuple(r for alike in _kinds(plan) for r in alike[: max(1, round(share * len(alike)))])
    total, taken = (sum(r.rate_req_per_s for r in some) for some in (plan.replicas, kept))
    names = {r.name for r in kept}
    routes = [r for r in plan.routes if r.replica in names]
    weight = sum(r.weight for r in routes)
    part = plan.with_(
        replicas=kept,
        routes=tuple(r.with_(weight=r.weight / weight) for r in routes),
        cost_usd_per_h=sum(r.cost_usd_per_h for r in kept),
    )
    return Sample(part, taken / total)


def _kinds(plan: Plan) -> Iterator[list[Replica]]:
    """Replicas that differ in nothing but their machines, in the plan's order."""
    found: dict[tuple[object, ...], list[Replica]] = {}
    for replica in plan.replicas:
        stages = tuple((s.layers, s.gpu, s.tp, plan.machine(s.machine).group) for s in replica.stages)
        key = (stages, replica.max_batch, replica.step_tokens, replica.kv_tokens, replica.rate_req_per_s)
        found.setdefault(key, []).append(replica)
    yield from found.values()
