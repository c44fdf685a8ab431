"""From chosen replicas to those of a plan: stages, memory, load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hexdsl.costs.memory import Slice, activation_bytes, comm_bytes, kv_token_bytes, weight_bytes
from hexdsl.ir.plan import Memory, Replica, Stage
from hexdsl.passes.serve.decide import Pick
from hexdsl.passes.serve.problem import BLOCK, NodeClass, Problem


def busiest_first(picks: Sequence[Pick]) -> tuple[Pick, ...]:
    """The order in which a plan lists its replicas."""
    return tuple(sorted(picks, key=lambda p: (-p.load, -p.candidate.rate)))


def replicas_of(picks: Sequence[Pick], problem: Problem) -> tuple[Replica, ...]:
    """The replicas of a plan, named in this order."""
    return tuple(_replica(f"r{i}", pick, problem) for i, pick in enumerate(picks))


def _replica(name: str, pick: Pick, problem: Problem) -> Replica:
    candidate = pick.candidate
    context = -(-problem.context // BLOCK) * BLOCK
    seats = int(problem.seats(candidate.batch, candidate.kv_tokens))
    tokens = min(candidate.kv_tokens // BLOCK * BLOCK, seats * context)
    bounds = np.concatenate([[0], np.cumsum(candidate.layers)]).tolist()
    stages = tuple(
        _stage(problem, problem.classes[cls], (bounds[i], bounds[i + 1]), pick.place[i], tokens)
        for i, (cls, _) in enumerate(candidate.shape.stages)
    )
    return Replica(
        name=name,
        stages=stages,
        max_batch=seats,
        step_tokens=candidate.step_tokens,
        kv_tokens=tokens,
        role=candidate.role,
        rate_req_per_s=pick.load,
        capacity_req_per_s=candidate.rate,
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
