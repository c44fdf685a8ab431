"""What sets the pace of a replica at its most: which stage or link, which resource there, and why no more run together.

A decode cycle takes the whole path, or as many times its busiest member as there are micro-batches
(`hexdsl.costs.serving.Pipeline`); a replica that only computes prompts takes the time of its busiest member.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from hexdsl.costs.serving import Pipeline, Visit
from hexdsl.ir.base import Ir, Rounded
from hexdsl.ir.plan import Memory, Plan, Replica
from hexdsl.passes.serve.priced import pipeline_of, running_at
from hexdsl.passes.serve.problem import Problem, Role, kind_named

LEAST = 0.005
"""Smaller shares are not said."""


class Share(Ir):
    """A resource, and its share of the time that sets the pace."""

    resource: str
    share: Rounded


class Pace(Ir):
    """What sets a replica's rate.  `member` is empty where the whole path does: stage after stage."""

    replica: str
    role: Role
    member: str
    seconds: Rounded
    """Of a cycle, or of a prompt on its busiest member."""
    capacity_req_per_s: Rounded
    together: int
    """Requests that run together at the most; 0 where it only computes prompts."""
    shares: tuple[Share, ...]
    seats: str
    """Why no more run together, as the search found it."""
    fullest: int
    """The stage whose GPUs have least memory to spare, from 1."""


def pace_of(plan: Plan, replica: Replica, problem: Problem) -> Pace:
    """What sets the rate of a replica of a finished plan."""
    line = pipeline_of(plan, replica, problem)
    prompts = replica.role == "prefill"
    together = 0 if prompts else _most(plan, replica, line, problem)
    found = _prompts(line, problem) if prompts else _decoding(line, together, problem, replica.role == "both")
    member, seconds, parts = found
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    shares = tuple(Share(resource=n, share=s / seconds) for n, s in ranked if s > LEAST * seconds)
    return Pace(
        replica=replica.name,
        role=replica.role,
        member=member,
        seconds=seconds,
        capacity_req_per_s=replica.capacity_req_per_s,
        together=together,
        shares=shares,
        seats=_seats(plan, replica),
        fullest=1 + max(range(len(replica.stages)), key=lambda i: _filled(replica.stages[i].memory)),
    )


def _most(plan: Plan, replica: Replica, line: Pipeline, problem: Problem) -> int:
    """Requests that run together at the replica's capacity."""
    counts: Counter[str] = Counter()
    for stage in replica.stages:
        counts[plan.machine(stage.machine).group] += stage.tp
    rate = replica.capacity_req_per_s * problem.margin("capacity", kind_named(counts, replica.role))
    return round(running_at(line, rate, replica.max_batch, problem, replica.role == "both"))


def _decoding(line: Pipeline, batch: int, problem: Problem, prefill: bool) -> tuple[str, float, dict[str, float]]:
    """The member, the seconds of a cycle, and these by resource."""
    load, lanes = problem.load, float(line.micro_batches(batch))
    visits, burst = line.visits(batch, load, prefill), line.burst(batch, load)
    held = [float(v.held(burst)) for v in visits]
    path = sum(float(v.busy + v.latency) for v in visits)
    busiest = int(np.argmax(held))
    parts: dict[str, float] = {}
    if len(visits) == 1 or path >= lanes * held[busiest]:
        for i, visit in enumerate(visits):
            for name, spent in (*_resources(visit, i, 1.0).items(), ("hops", float(visit.latency))):
                parts[name] = parts.get(name, 0.0) + spent
        return "" if len(visits) > 1 else "stage 1", path, parts
    parts |= _resources(visits[busiest], busiest, lanes)
    parts["pipeline bubbles"] = lanes * (held[busiest] - float(visits[busiest].busy))
    return _member(busiest), lanes * held[busiest], parts


def _resources(visit: Visit, position: int, times: float) -> dict[str, float]:
    """Seconds of a visit by resource; stages and links take turns."""
    step = visit.decode
    sent = "hops" if position % 2 else "collectives"
    return {
        "weight reads": times * float(step.weights),
        "compute": times * float(step.compute),
        "KV cache reads": times * float(step.kv),
        sent: times * float(step.network) + (times * float(visit.prefill) if position % 2 else 0.0),
        "launches and sampling": times * float(step.overhead),
        "prompts": 0.0 if position % 2 else times * float(visit.prefill),
    }


def _member(position: int) -> str:
    stage = position // 2 + 1
    return f"the hop from stage {stage} to {stage + 1}" if position % 2 else f"stage {stage}"


def _prompts(line: Pipeline, problem: Problem) -> tuple[str, float, dict[str, float]]:
    """The busiest member, its seconds a prompt, and these by resource."""
    prompt, cv, layers = problem.prompt, problem.load.cv_prompt, [float(np.asarray(n)) for n in line.layers]
    stages = [n * float(s.prefill(prompt, cv)) for n, s in zip(layers, line.stages, strict=True)]
    hops = [prompt * line.stages[0].token_bytes / h.bandwidth for h in line.hops]
    if hops and max(hops) > max(stages):
        k = int(np.argmax(hops))
        return _member(2 * k + 1), hops[k], {"hops": hops[k]}
    k = int(np.argmax(stages))
    cost = line.stages[k]
    sent = layers[k] * 2 * prompt * cost.token_bytes * cost.reduce.s_per_byte
    return _member(2 * k), stages[k], {"compute": stages[k] - sent, "collectives": sent}


def _filled(m: Memory) -> float:
    return (m.weights_bytes + m.kv_bytes + m.other_bytes) / m.capacity_bytes


TOGETHER = "requests together"
"""How the search says how many requests a replica runs."""


def _seats(plan: Plan, replica: Replica) -> str:
    mine = (d for d in plan.decisions if replica.name in d.what.split(", ") and d.choice.endswith(TOGETHER))
    return next((d.reason for d in mine), "")
