"""The JSON files that the ranks read: one a replica."""

from __future__ import annotations

import json
from typing import Any

from hexdsl.ir.launch import File
from hexdsl.ir.plan import Plan, Replica
from hexdsl.ir.spec.target import Target
from hexdsl.targets.engines.torch.place import Place, served
from hexdsl.targets.engines.torch.supports import DTYPES
from hexdsl.targets.service import FORMAT_VERSION

BLOCK_TOKENS = 16
"""Tokens in one block of the paged KV cache (Kwon et al., PagedAttention, 2023)."""


def engine_config(plan: Plan, target: Target, place: Place, weights: str) -> File:
    """What one replica is: stages with their ranks, KV pool, limits, address."""
    replica, model = place.replica, served(plan)
    dtypes = {p.gpu: DTYPES[p.weights] for p in plan.precision if p.weights in DTYPES}
    config = {
        "format_version": FORMAT_VERSION,
        "replica": replica.name,
        "role": replica.role,
        "model": {"name": model.name, "path": weights, "dtype": dtypes[replica.stages[0].gpu]},
        "stages": _stages(replica),
        **pool_and_limits(plan, target, replica),
        "device": place.device,
        "host": place.host,
        "port": place.port,
        "kernels": [],
    }
    return File(path=place.config, text=json.dumps(config, indent=2) + "\n")


def pool_and_limits(plan: Plan, target: Target, replica: Replica) -> dict[str, Any]:
    """The KV pool of a replica, and how many requests and tokens it takes at once."""
    return {
        "kv": {"block_tokens": BLOCK_TOKENS, "blocks": kv_blocks(replica.kv_tokens, plan.context)},
        "limits": {
            "max_batch": replica.max_batch,
            "max_context": plan.context,
            "max_queue": target.max_queue,
            "prefill_chunk_tokens": max(replica.step_tokens, replica.max_batch),
        },
    }


def kv_blocks(tokens: int, context: int) -> int:
    """Blocks of a replica's KV pool: what the plan sets aside, but enough for one request of the longest context."""
    return max(tokens // BLOCK_TOKENS, -(-context // BLOCK_TOKENS))


def _stages(replica: Replica) -> list[dict[str, Any]]:
    stages, first = [], 0
    for stage in replica.stages:
        stages.append({"layers": list(stage.layers), "ranks": list(range(first, first + stage.tp))})
        first += stage.tp
    return stages
