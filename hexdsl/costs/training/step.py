"""Seconds of a training step, for one strategy or for arrays of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Gpu
from hexdsl.costs.training.coefficients import Coefficients, default_coefficients, efficiency
from hexdsl.costs.training.layout import Kinds, Stages, Weights, shard, stages, weights
from hexdsl.costs.training.stage import Compute, stage_compute
from hexdsl.costs.training.strategy import Array, Fabric, TrainStrategy, num
from hexdsl.costs.training.traffic import (
    Rings,
    context_s,
    exchange_s,
    expert_s,
    exposed,
    hop_s,
    rings,
    shard_s,
    tensor_s,
)

Parts = dict[str, Array]
"""Seconds by cause; they add up."""

_ADAM_BYTES = 26.0
"""Adam reads and writes two moments and the 32-bit weight, and writes the 16-bit one; the gradient comes on top."""


@dataclass(frozen=True, slots=True)
class Micro:
    """A micro-batch in each stage, stages along axis 0: seconds by cause."""

    parts: Parts
    at: Stages

    @property
    def total(self) -> Array:
        return np.asarray(sum(self.parts.values()))


def step_parts(
    arch: Arch,
    gpu: Gpu | Sequence[Kinds],
    strategy: TrainStrategy,
    seq: float,
    fabric: Fabric,
    coef: Coefficients | None = None,
) -> Parts:
    """Seconds of a step by cause, in the shape of the strategy's arrays.

    With stage times t_i, m micro-batches and v virtual stages a step takes m max(t) for the busiest stage and
    (sum(t) - max(t)) / v to fill and drain the pipeline (Narayanan et al. 2021, section 2.2, for equal stages), then
    what the exchange of gradients and the optimizer leave exposed.
    """
    coef = coef or default_coefficients()
    at, held, groups, compute = _prepare(arch, gpu, strategy, seq, fabric, coef)
    micro = _micro(arch, strategy, seq, fabric, coef, at, held, groups, compute)
    parts = _pipeline(micro, strategy)
    parts["gradient exchange"] = np.max(exchange_s(strategy, held, groups, compute, coef), axis=0)
    kinds = _kinds(at)
    update, host = _optimizer(strategy, held, kinds, fabric)
    parts["optimizer"], parts["offload"] = np.max(update, axis=0), np.max(host, axis=0)
    return parts


def step_seconds(
    arch: Arch,
    gpu: Gpu | Sequence[Kinds],
    strategy: TrainStrategy,
    seq: float,
    fabric: Fabric,
    coef: Coefficients | None = None,
) -> Array:
    """Seconds of a step, in the shape of the strategy's arrays."""
    return np.asarray(sum(step_parts(arch, gpu, strategy, seq, fabric, coef).values()))


def stage_seconds(
    arch: Arch,
    gpu: Gpu | Sequence[Kinds],
    strategy: TrainStrategy,
    seq: float,
    fabric: Fabric,
    coef: Coefficients | None = None,
) -> Array:
    """Seconds of a micro-batch, forward and backward, in each stage (along axis 0): what a splitter balances."""
    coef = coef or default_coefficients()
    at, held, groups, compute = _prepare(arch, gpu, strategy, seq, fabric, coef)
    return _micro(arch, strategy, seq, fabric, coef, at, held, groups, compute).total


def bubble_share(parts: Parts) -> Array:
    """Share of the step in which the busiest stage waits for the pipeline to fill and drain."""
    return np.asarray(parts["bubble"] / sum(parts.values()))


def _prepare(
    arch: Arch, gpu: Gpu | Sequence[Kinds], strategy: TrainStrategy, seq: float, fabric: Fabric, coef: Coefficients
) -> tuple[Stages, Weights, Rings, Compute]:
    at = stages(arch, gpu, strategy)
    groups = rings(_kinds(at), fabric, strategy, coef)
    return at, weights(arch, strategy, at), groups, stage_compute(arch, strategy, seq, at, coef)


def _kinds(at: Stages) -> tuple[Gpu, ...]:
    return tuple(sorted({gpu for kinds in at.kinds for gpu in kinds}, key=lambda g: g.name))


def _micro(
    arch: Arch,
    strategy: TrainStrategy,
    seq: float,
    fabric: Fabric,
    coef: Coefficients,
    at: Stages,
    held: Weights,
    groups: Rings,
    compute: Compute,
) -> Micro:
    both = compute.both
    parts = {
        "products": both.products,
        "attention": both.attention,
        "memory traffic": both.memory,
        "recomputation": both.recompute,
        "launches": both.launch,
        "tensor parallel": tensor_s(arch, strategy, seq, at, groups.tensor, coef),
        "context parallel": context_s(arch, strategy, seq, at, groups.context, compute, coef),
        "expert parallel": expert_s(arch, strategy, seq, at, groups.expert),
        "pipeline hops": hop_s(arch, strategy, seq, at, fabric, coef),
        "sharded weights": shard_s(strategy, held, groups, compute, coef),
        "offload of weights": _weights_from_host(strategy, held, compute, fabric, coef),
    }
    shape = np.broadcast_shapes(*(p.shape for p in parts.values()))
    present = np.broadcast_to(at.count > 0, shape)
    return Micro({name: np.where(present, p, 0.0) for name, p in parts.items()}, at)


def _pipeline(micro: Micro, strategy: TrainStrategy) -> Parts:
    total = micro.total
    busiest = np.argmax(total, axis=0)[None]
    m, chunks = num(strategy.accumulation), num(strategy.interleave)
    parts = {name: m * np.take_along_axis(p, busiest, axis=0)[0] for name, p in micro.parts.items()}
    others = np.sum(total * micro.at.count, axis=0) - np.max(total, axis=0)
    parts["bubble"] = others / chunks
    return parts


def _optimizer(strategy: TrainStrategy, held: Weights, kinds: Sequence[Gpu], fabric: Fabric) -> tuple[Array, Array]:
    """Seconds of Adam on the GPU, and on the host with gradients down and weights up; one of them is 0."""
    mine = shard(strategy, held, 1)
    moved = _ADAM_BYTES + 2 * strategy.gradient_bytes
    if strategy.offload == "none":
        slowest = min(gpu.bandwidth * efficiency(gpu).memory for gpu in kinds)
        return np.asarray(mine * moved / slowest), np.zeros_like(mine)
    link = mine * (strategy.gradient_bytes + strategy.value_bytes) / fabric.host.bandwidth
    return np.zeros_like(mine), np.asarray(link + mine * moved / fabric.host_bandwidth)


def _weights_from_host(
    strategy: TrainStrategy, held: Weights, compute: Compute, fabric: Fabric, coef: Coefficients
) -> Array:
    """Weights that live on the host come over the host link for the forward and for the backward pass."""
    if strategy.offload != "all":
        return np.zeros_like(held.total)
    moved = 2 * shard(strategy, held, 3) * strategy.value_bytes / fabric.host.bandwidth
    return exposed(moved, compute.both.total, strategy.kernels.overlap_dp, coef)
