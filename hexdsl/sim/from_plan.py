"""From a plan and a workload to what is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from hexdsl.costs.serving import Pipeline
from hexdsl.ir.plan import Plan
from hexdsl.ir.plan import Replica as PlannedReplica
from hexdsl.ir.spec.workload import Constant, Gamma, Length, Poisson, Weibull, Workload
from hexdsl.sim.analytic import AnalyticSteps
from hexdsl.sim.arrivals import Times, constant, gamma, poisson, weibull
from hexdsl.sim.request import Request
from hexdsl.sim.spec import Cluster, EngineSpec, ReplicaSpec, RouterSpec


def replicas_of(
    plan: Plan, pipelines: Mapping[str, Pipeline], engine: EngineSpec | None = None
) -> tuple[ReplicaSpec, ...]:
    """The plan's replicas, each with its priced pipeline and the KV cache and batch that the plan gives it.

    `engine` sets the scheduler's other limits.  Raises KeyError where a replica has no pipeline.
    """
    return tuple(_replica(replica, pipelines[replica.name], engine) for replica in plan.replicas)


def _replica(planned: PlannedReplica, line: Pipeline, engine: EngineSpec | None) -> ReplicaSpec:
    base = engine or EngineSpec(blocks=1, entry_s=line.overheads.first_token_s)
    seats = max(1, min(planned.max_batch, base.max_num_batched_tokens))
    return ReplicaSpec(
        name=planned.name,
        engine=replace(base, blocks=max(1, planned.kv_tokens // base.block_size), max_num_seqs=seats),
        times=AnalyticSteps(line),
        nodes=tuple(dict.fromkeys(stage.machine for stage in planned.stages)),
        usd_per_h=planned.cost_usd_per_h,
    )


def router_of(plan: Plan) -> RouterSpec:
    """Smooth weighted round-robin by the plan's routes."""
    return RouterSpec(weights={route.replica: route.weight for route in plan.routes})


def cluster_of(plan: Plan, pipelines: Mapping[str, Pipeline], engine: EngineSpec | None = None) -> Cluster:
    """The plan as a cluster."""
    return Cluster(replicas_of(plan, pipelines, engine), router_of(plan))


def requests_of(workload: Workload, count: int, seed: int, rate: float | None = None) -> tuple[Request, ...]:
    """So many requests drawn from the workload's distributions; the same for the same seed.

    `rate` replaces the rate of the arrivals, and makes them independent where the workload says nothing.  Without
    arrivals and rate all come at once, as for a closed loop.  Lengths are rounded to whole tokens, at least 1.
    """
    rng = np.random.default_rng(seed)
    times = _times(workload, count, rng, rate)
    kinds = _kinds(workload)
    shares = np.array([kind.share for kind in kinds])
    chosen = rng.choice(len(kinds), count, p=shares / shares.sum()).tolist()
    scores = rng.standard_normal((count, 2)).tolist()
    return tuple(
        Request(i, at, _tokens(kinds[k].prompt, score[0]), _tokens(kinds[k].output, score[1]), klass=kinds[k].name)
        for i, (at, k, score) in enumerate(zip(times.tolist(), chosen, scores, strict=True))
    )


class _Kind(NamedTuple):
    """A class of requests with the lengths that it has in the end."""

    name: str
    share: float
    prompt: Length
    output: Length


def _kinds(workload: Workload) -> list[_Kind]:
    prompt, output = workload.prompt, workload.output
    if workload.class_:
        return [_Kind(c.name, c.share, c.prompt or prompt, c.output or output) for c in workload.class_]
    return [_Kind(name, share, prompt, output) for name, share in (workload.classes or {"": 1.0}).items()]


def _tokens(length: Length, score: float) -> int:
    return max(1, round(length.quantile(score)))


def _times(workload: Workload, count: int, rng: Generator, rate: float | None) -> Times:
    arrivals = workload.arrivals
    if arrivals is None:
        return poisson(rate, count, rng) if rate else np.zeros(count)
    rate = rate or arrivals.rate
    match arrivals:
        case Poisson():
            return poisson(rate, count, rng)
        case Gamma(cv=cv):
            return gamma(rate, cv, count, rng)
        case Weibull(shape=shape):
            return weibull(rate, shape, count, rng)
        case Constant():
            return constant(rate, count)
