"""Seconds of communication in a training step, and how much of it compute hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hexdsl.costs.arch import Arch, mixture_share
from hexdsl.costs.gpu import Gpu
from hexdsl.costs.training.coefficients import Coefficients
from hexdsl.costs.training.fabric import Ring, ring
from hexdsl.costs.training.layout import Stages, Weights
from hexdsl.costs.training.stage import Compute, tokens
from hexdsl.costs.training.strategy import Array, Fabric, TrainStrategy, num
from hexdsl.costs.training.work import widths


@dataclass(frozen=True, slots=True)
class Rings:
    """The groups of a rank: tensor, context, expert, and the replicas of its weights and of its experts."""

    tensor: Ring
    context: Ring
    expert: Ring
    replicas: Ring
    expert_replicas: Ring


def rings(kinds: Sequence[Gpu], fabric: Fabric, strategy: TrainStrategy, coef: Coefficients) -> Rings:
    """Groups in the order tp, cp, dp, pp of ranks; experts are spread over the nearest replicas."""
    tp, cp, ep, copies = num(strategy.tp), num(strategy.cp), num(strategy.ep), strategy.shards
    one = np.ones_like(tp)
    groups = ((tp, one), (cp, tp), (ep, tp), (copies, tp), (np.maximum(copies / ep, 1), tp * ep))
    return Rings(*(ring(kinds, fabric, n, stride, coef.nic_share) for n, stride in groups))


def tensor_s(arch: Arch, strategy: TrainStrategy, seq: float, at: Stages, group: Ring, coef: Coefficients) -> Array:
    """Two all-reduces a layer forward and two backward, and two more where the layer is recomputed; recomputing every
    second product gathers its inputs again.

    With sequence parallelism each is a reduce-scatter and an all-gather of the same bytes (Korthikanti et al. 2022,
    section 4.2.2).
    """
    size = tokens(strategy, seq) * arch.hidden * strategy.value_bytes
    again = {"full": 2.0, "ops": 1.0 * strategy.sequence_parallel}.get(strategy.recompute, 0.0)
    shown = 1 - coef.tp_hidden * strategy.kernels.overlap_tp
    return np.asarray((4 + again * strategy.recompute_share) * at.layers * group.reduce(size) * shown)


def context_s(
    arch: Arch, strategy: TrainStrategy, seq: float, at: Stages, group: Ring, compute: Compute, coef: Coefficients
) -> Array:
    """Keys and values of the other ranks forward, and these with their gradients backward, behind attention."""
    gathered = widths(arch, strategy).kv * tokens(strategy, seq) * num(strategy.cp) * strategy.value_bytes
    return exposed(at.layers * 3 * group.gather(gathered), compute.both.attention, True, coef)


def expert_s(arch: Arch, strategy: TrainStrategy, seq: float, at: Stages, group: Ring) -> Array:
    """Tokens to their experts and back, forward and backward: four all-to-alls in a layer with experts."""
    if arch.experts is None:
        return np.zeros_like(at.layers * group.n)
    copies = arch.experts.per_token * widths(arch, strategy).stream
    return np.asarray(
        4 * at.layers * mixture_share(arch) * group.exchange(tokens(strategy, seq) * copies * strategy.value_bytes)
    )


def hop_s(arch: Arch, strategy: TrainStrategy, seq: float, at: Stages, fabric: Fabric, coef: Coefficients) -> Array:
    """Sending a micro-batch to the next stage and its gradient back.

    Ranks of a tensor-parallel group send a slice each (Narayanan et al. 2021, section 4.1).  An interleaved schedule
    sends once per virtual stage, behind the compute of another micro-batch.
    """
    tp, pp = num(strategy.tp), num(strategy.pp)
    stride = tp * strategy.shards
    inside, outside = fabric.inside, fabric.outside or fabric.inside
    far = stride * pp > fabric.node_gpus
    size = tokens(strategy, seq) * arch.hidden * strategy.value_bytes / tp
    latency = np.where(far, outside.latency_s, inside.latency_s)
    once = latency + size / np.where(far, outside.bandwidth * coef.nic_share, inside.bandwidth)
    chunks = num(strategy.interleave)
    shown = np.where(chunks > 1, coef.contention, 1.0)
    return np.asarray(np.where(pp > 1, 2 * chunks * once * shown, 0.0) * np.ones_like(at.layers))


def shard_s(strategy: TrainStrategy, held: Weights, groups: Rings, compute: Compute, coef: Coefficients) -> Array:
    """What ZeRO moves in every micro-batch: gradients from stage 2 on, weights twice in stage 3."""
    zero = num(strategy.zero)
    gather, scatter = (_over(held, groups, size) for size in (strategy.value_bytes, strategy.gradient_bytes))
    moved = np.where(zero >= 2, scatter, 0.0) + np.where(zero >= 3, 2 * gather, 0.0)
    return exposed(moved, compute.both.total, strategy.kernels.overlap_dp, coef)


def exchange_s(strategy: TrainStrategy, held: Weights, groups: Rings, compute: Compute, coef: Coefficients) -> Array:
    """What replicas exchange once a step: all gradients before stage 2, updated weights in stages 1 and 2.

    Gradients hide behind the last micro-batch's backward pass, weights behind the next step's first forward pass.
    """
    zero, overlap = num(strategy.zero), strategy.kernels.overlap_dp
    gather, scatter = (_over(held, groups, size) for size in (strategy.value_bytes, strategy.gradient_bytes))
    gradients = np.where(zero == 0, 2 * scatter, np.where(zero == 1, scatter, 0.0))
    weights = np.where((zero == 1) | (zero == 2), gather, 0.0)
    first = exposed(gradients, compute.backward.total, overlap, coef)
    return first + exposed(weights, compute.forward.total, overlap, coef)


def _over(held: Weights, groups: Rings, size: float) -> Array:
    """Seconds to gather, or to scatter, all weights of a rank at so many bytes each."""
    return groups.replicas.gather(held.dense * size) + groups.expert_replicas.gather(held.experts * size)


def exposed(comm: Array, compute: Array, overlap: bool, coef: Coefficients) -> Array:
    """What a transfer adds to the compute beside which it runs.

    A share of it always costs time, for both use the same memory and multiprocessors; the rest hides as far as there
    is compute.
    """
    if not overlap:
        return np.asarray(comm + 0.0 * compute)
    return np.asarray(coef.contention * comm + np.maximum((1 - coef.contention) * comm - compute, 0.0))
