"""From chosen candidates to the replicas of a plan: stages, memory, load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hexdsl.costs.memory import Slice, activation_bytes, comm_bytes, kv_token_bytes, weight_bytes
from hexdsl.ir.plan import Machine, Memory, Replica, Stage
from hexdsl.passes.serve.candidates import Candidate, Space
from hexdsl.passes.serve.place import place
from hexdsl.passes.serve.problem import NodeClass, Problem

BLOCK = 16
"""Tokens in a block of the KV cache."""


def replicas_of(
    picks: Sequence[tuple[Candidate, int, float]],
    cuts: Sequence[Sequence[tuple[int, ...]]],
    machines: Sequence[Machine],
    space: Space,
) -> tuple[Replica, ...]:
    """The replicas, those with most load first.  Equal replicas share their load evenly."""
    each = [(c, load / n) for c, n, load in picks for _ in range(n)]
    each.sort(key=lambda pair: (-pair[1], -pair[0].point.rate))
    places = place([c.point.shape for c, _ in each], cuts, machines, space.problem)
    return tuple(
        _replica(f"r{i}", candidate, load, where, space.problem)
        for i, ((candidate, load), where) in enumerate(zip(each, places, strict=True))
    )


def _replica(
    name: str, candidate: Candidate, load: float, where: Sequence[tuple[str, tuple[int, ...]]], problem: Problem
) -> Replica:
    point = candidate.point
    tokens = min(point.kv_tokens, point.batch * problem.context) // BLOCK * BLOCK
    bounds = np.concatenate([[0], np.cumsum(point.layers)]).tolist()
    stages = tuple(
        _stage(problem, problem.classes[cls], (bounds[i], bounds[i + 1]), where[i], tokens)
        for i, (cls, _) in enumerate(point.shape.stages)
    )
    return Replica(
        name=name,
        stages=stages,
        max_batch=point.batch,
        kv_tokens=tokens,
        rate_req_per_s=load if problem.arrivals is not None else point.rate,
        capacity_req_per_s=point.rate,
        cost_usd_per_h=0.0,
    )


def _stage(
    problem: Problem, cls: NodeClass, layers: tuple[int, int], where: tuple[str, tuple[int, ...]], tokens: int
) -> Stage:
    machine, gpus = where
    return Stage(
        layers=layers,
        machine=machine,
        devices=tuple(f"{machine}:{k}" for k in gpus),
        gpu=cls.gpu.name,
        memory=memory_of(problem, cls, layers, len(gpus), tokens),
    )


def memory_of(problem: Problem, cls: NodeClass, layers: tuple[int, int], tp: int, tokens: int) -> Memory:
    """The memory of one GPU of a stage whose KV cache holds so many tokens."""
    part = Slice(*layers, tp)
    usable = min(cls.gpu.memory_bytes, cls.gpu.usable_bytes or cls.gpu.memory_bytes)
    working = float(activation_bytes(problem.arch, cls.formats, part, problem.engine))
    return Memory(
        capacity_bytes=int(usable * problem.engine.utilisation),
        weights_bytes=int(weight_bytes(problem.arch, cls.formats, part)),
        kv_bytes=int(tokens * float(kv_token_bytes(problem.arch, cls.formats, part))),
        other_bytes=int(working + cls.gpu.reserve_bytes + comm_bytes(cls.gpu, tp)),
    )
