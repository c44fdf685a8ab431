"""The least GPU time that a request can cost, whatever the replicas look like: the relaxation behind certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hexdsl.costs.arch import Arch, active_experts
from hexdsl.costs.gpu import Formats, Gpu
from hexdsl.costs.memory import DEFAULT_ENGINE, Engine
from hexdsl.costs.overheads import Overheads
from hexdsl.costs.serving import Load
from hexdsl.costs.stage import gpu_cost, overheads_of, together


@dataclass(frozen=True, slots=True)
class Work:
    """GPU-seconds per layer of one request."""

    prefill_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        return self.prefill_s + self.decode_s


def work_per_request(
    gpu: Gpu,
    arch: Arch,
    formats: Formats,
    load: Load,
    engine: Engine = DEFAULT_ENGINE,
    overheads: Overheads | None = None,
) -> Work:
    """Least GPU-seconds per layer that a request takes from this GPU in any stage of any replica.

    Take a GPU of a stage of n layers on t GPUs, in a replica of rate R with m micro-batches of b sequences.  A cycle
    is at least m (d + (b/output) p), so R = m b / (output * cycle) <= 1 / (output * d/b + p).  Of the stage's decode
    step d and prompt p, each of its t GPUs does 1/t, and copied KV heads, all-reduces, head and a slower partner only
    add; d/b falls with b (weights, experts and overhead are shared by the batch), and b <= max_batch.  Hence
    R * (n/t) * w <= 1 with w the work below at b = max_batch and t = 1.
    """
    b, over = float(engine.max_batch), overheads or overheads_of(gpu)
    cost = gpu_cost(gpu, arch, formats)
    read = (cost.read_s + cost.expert_read_s * float(active_experts(arch, b))) / b
    cache = float(together(cost.kv_read_s, cost.kv_token_s)) * float(load.context)
    token = float(together(read, cost.token_s)) + cache + over.layer_s / b
    s = float(np.asarray(load.prompt))
    square = (1 + load.cv_prompt**2) * s**2
    prompt = cost.token_s * s + cost.square_s * square / float(cost.efficiency.attention_at(s))
    return Work(prompt, token * float(np.asarray(load.output)))


def rate_bound(
    gpus: Sequence[Gpu],
    arch: Arch,
    formats: Formats,
    load: Load,
    engine: Engine = DEFAULT_ENGINE,
    overheads: Overheads | None = None,
) -> float:
    """Requests a second that no set of replicas on these GPUs exceeds, where each does both prefill and decode.

    Summing R (n/t) w <= 1 over a replica's GPUs, whose n/t add up to the layers, gives R layers <= sum of 1/w; so the
    rates of all replicas add up to at most the sum over all GPUs of 1 / (layers * w).
    """
    works = {gpu: work_per_request(gpu, arch, formats, load, engine, overheads).total_s for gpu in set(gpus)}
    return sum(1 / (arch.layers * works[gpu]) for gpu in gpus)
