"""From a plan and a workload to what is simulated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from hexdsl.costs.gpu import Link
from hexdsl.costs.serving import Pipeline
from hexdsl.ir.plan import Plan
from hexdsl.ir.plan import Replica as PlannedReplica
from hexdsl.ir.spec.workload import Constant, Empirical, Gamma, Length, Poisson, Recorded, Weibull, Workload
from hexdsl.sim.analytic import AnalyticSteps
from hexdsl.sim.arrivals import Times, constant, gamma, poisson, weibull
from hexdsl.sim.request import Request
from hexdsl.sim.spec import Cluster, EngineSpec, Failure, ReplicaSpec, Route, RouterSpec
from hexdsl.sim.trace import Trace


def replicas_of(
    plan: Plan, pipelines: Mapping[str, Pipeline], engine: EngineSpec | None = None
) -> tuple[ReplicaSpec, ...]:
    """The plan's replicas, each with its priced pipeline and the KV cache and batch that the plan gives it.

    `engine` sets the scheduler's other limits.  Raises KeyError where a replica has no pipeline.
    """
    return tuple(_replica(replica, pipelines[replica.name], engine) for replica in plan.replicas)


def _replica(planned: PlannedReplica, line: Pipeline, engine: EngineSpec | None) -> ReplicaSpec:
    base = engine or EngineSpec(blocks=1, entry_s=line.overheads.first_token_s)
    seats = max(1, planned.max_batch)
    budget = max(seats, planned.step_tokens)
    return ReplicaSpec(
        name=planned.name,
        engine=replace(
            base, blocks=max(1, planned.kv_tokens // base.block_size), max_num_seqs=seats, max_num_batched_tokens=budget
        ),
        times=AnalyticSteps(line),
        role=planned.role,
        nodes=tuple(dict.fromkeys(stage.machine for stage in planned.stages)),
        usd_per_h=planned.cost_usd_per_h,
    )


def router_of(plan: Plan) -> RouterSpec:
    """Smooth weighted round-robin by the plan's routes and handovers."""
    pairs = {(h.source, h.target): h.weight for h in plan.handovers}
    return RouterSpec(weights={route.replica: route.weight for route in plan.routes}, pairs=pairs)


@dataclass(frozen=True, slots=True)
class Way:
    """How KV caches go from one replica to another: over which link, and the bytes of a token."""

    source: str
    target: str
    link: Link
    token_bytes: float


def cluster_of(
    plan: Plan,
    pipelines: Mapping[str, Pipeline],
    engine: EngineSpec | None = None,
    failures: tuple[Failure, ...] = (),
    ways: tuple[Way, ...] = (),
) -> Cluster:
    """The plan as a cluster.  Raises ValueError where a failure names neither a replica nor a machine that serves."""
    replicas = replicas_of(plan, pipelines, engine)
    links = {f"{w.source}-{w.target}": w.link for w in ways}
    routes = tuple(Route(w.source, w.target, (f"{w.source}-{w.target}",), w.token_bytes) for w in ways)
    return Cluster(replicas, router_of(plan), links, routes, failures)


@dataclass(frozen=True, slots=True)
class Leaver:
    """A machine that leaves at random: how often a second, and the seconds until others do its work."""

    name: str
    leaves_per_s: float
    away_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is played through a plan: a trace, or else what is drawn from the workload; and what fails meanwhile.

    `as_planned` is False for a load that the plan was not made for, of which it cannot leave a part to others.
    """

    trace: Trace | None = None
    failures: tuple[Failure, ...] = ()
    as_planned: bool = True
    leavers: tuple[Leaver, ...] = ()

    def fitting(self, count: int, runs: int) -> tuple[int, int]:
        """Requests in a run, and runs: at most what the trace holds, so that no two windows of it overlap."""
        if self.trace is None:
            return count, runs
        count = min(count, len(self.trace.requests))
        return count, min(runs, len(self.trace.requests) // count)

    def requests(self, workload: Workload, count: int, run: int, runs: int) -> tuple[Request, ...]:
        """The requests of a run: a window of the trace, or drawn with the run's number as seed.

        Arrivals and lengths that the workload does not take from its trace are drawn even so.
        """
        if self.trace is None:
            return requests_of(workload, count, run)
        return _mixed(self.trace.window(count, run, runs), workload, run)

    def failures_in(self, run: int, span_s: float) -> tuple[Failure, ...]:
        """What fails in a run of so many seconds: as given, and who leaves, drawn with the run's number as seed."""
        rng = np.random.default_rng((run, 3))
        drawn = (f for leaver in self.leavers for f in _leaves(leaver, span_s, rng))
        return (*self.failures, *sorted(drawn, key=lambda f: (f.at_s, f.name)))


def _leaves(leaver: Leaver, span_s: float, rng: Generator) -> Iterator[Failure]:
    at = float(rng.exponential(1 / leaver.leaves_per_s))
    while at < span_s:
        yield Failure(at, leaver.name, leaver.away_s)
        at += leaver.away_s + float(rng.exponential(1 / leaver.leaves_per_s))


PLAIN = Scenario()


def _mixed(window: tuple[Request, ...], workload: Workload, seed: int) -> tuple[Request, ...]:
    """Recorded requests, with what the workload says otherwise.  Blocks say nothing about drawn prompts."""
    times = isinstance(workload.arrivals, Recorded)
    prompts, outputs = (isinstance(length, Empirical) for length in (workload.prompt, workload.output))
    if times and prompts and outputs:
        return window
    drawn = requests_of(workload, len(window), seed)
    return tuple(
        replace(
            r,
            arrival_s=r.arrival_s if times else d.arrival_s,
            prompt=r.prompt if prompts else d.prompt,
            blocks=r.blocks if prompts else (),
            output=r.output if outputs else d.output,
        )
        for r, d in zip(window, drawn, strict=True)
    )


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


LEAST_CV = 0.05
"""Gaps that vary less are equal for all that a queue feels."""


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
        case Recorded(queued=queued):
            return gamma(rate, max(LEAST_CV, queued[len(queued) // 2]), count, rng)
        case Constant():
            return constant(rate, count)
