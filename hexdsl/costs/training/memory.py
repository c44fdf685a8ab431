"""Bytes that a rank needs in a training step, by part, for one strategy or for arrays of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hexdsl.costs.arch import Arch, embedding_params, layer_params
from hexdsl.costs.gpu import Gpu
from hexdsl.costs.memory import comm_bytes
from hexdsl.costs.training.coefficients import Coefficients, default_coefficients
from hexdsl.costs.training.layout import Kinds, Stages, Weights, shard, stages, weights
from hexdsl.costs.training.stage import tokens
from hexdsl.costs.training.strategy import Array, TrainStrategy, num
from hexdsl.costs.training.work import input_bytes, kept_bytes, ops_bytes

MemoryParts = dict[str, Array]
"""Bytes by part, stages along axis 0; they add up."""

_OPTIMIZER_BYTES = 12.0
"""Adam's two moments and the 32-bit weights (Rajbhandari et al. 2020, section 3.1)."""
_LOGIT_BYTES = {True: 4.0, False: 12.0}
"""Held per logit at the peak: fused, logits and gradient in 16 bits; in eager mode, in 32 bits, the log-softmax, its
gradient and the gradient of the logits."""


def memory_parts(
    arch: Arch,
    gpu: Gpu | Sequence[Kinds],
    strategy: TrainStrategy,
    seq: float,
    coef: Coefficients | None = None,
) -> MemoryParts:
    """Bytes of a rank of each stage by part.

    Stages lie along axis 0: first, inner and last (0 where a strategy lacks them), or one each where layers or GPUs
    are named stage by stage.
    """
    coef = coef or default_coefficients()
    at = stages(arch, gpu, strategy)
    held = weights(arch, strategy, at)
    parts = {
        **_states(strategy, held),
        "gathered weights": _gathered(arch, strategy, at),
        "activations": _activations(arch, strategy, seq, at),
        "loss or layer at work": _at_work(arch, strategy, seq, at),
    }
    parts["fragmentation"] = coef.fragmentation * np.asarray(sum(parts.values()))
    parts["reserve"] = _reserve(strategy, at)
    shape = np.broadcast_shapes(*(p.shape for p in parts.values()))
    present = np.broadcast_to(at.count > 0, shape)
    return {name: np.where(present, part, 0.0) for name, part in parts.items()}


def rank_bytes(
    arch: Arch,
    gpu: Gpu | Sequence[Kinds],
    strategy: TrainStrategy,
    seq: float,
    coef: Coefficients | None = None,
) -> Array:
    """Bytes of a rank of each stage, stages along axis 0."""
    return np.asarray(sum(memory_parts(arch, gpu, strategy, seq, coef).values()))


def room_bytes(
    arch: Arch,
    gpu: Gpu | Sequence[Kinds],
    strategy: TrainStrategy,
    seq: float,
    coef: Coefficients | None = None,
) -> Array:
    """Least bytes left on any rank, in the shape of the strategy's arrays; negative where a rank does not fit."""
    at = stages(arch, gpu, strategy)
    usable = np.array([min(min(g.memory_bytes, g.usable_bytes or g.memory_bytes) for g in k) for k in at.kinds])
    need = rank_bytes(arch, gpu, strategy, seq, coef)
    return np.asarray(np.min(usable.reshape(-1, *(1,) * (need.ndim - 1)) - need, axis=0))


def _states(strategy: TrainStrategy, held: Weights) -> MemoryParts:
    """Weights, gradients and optimizer states; ZeRO divides them from stage 3, 2 and 1 on, offloading removes them."""
    wide = strategy.value_bytes
    master = _OPTIMIZER_BYTES - 4.0 * (wide == 4.0)
    gradient = max(strategy.gradient_bytes, wide)
    off = strategy.offload != "none"
    return {
        "weights": shard(strategy, held, 3) * (0.0 if strategy.offload == "all" else wide),
        "gradients": shard(strategy, held, 2) * gradient,
        "optimizer": shard(strategy, held, 1) * (0.0 if off else master),
    }


def _gathered(arch: Arch, strategy: TrainStrategy, at: Stages) -> Array:
    """Whole weights that a rank holds while ZeRO 3 (or weights on the host) gathers them: two layers, for the next
    is fetched ahead, with one layer's gradients; and the vocabulary's tables, which stay with their gradients."""
    wide = strategy.value_bytes
    apart = (num(strategy.zero) >= 3) | (strategy.offload == "all")
    layer = float(layer_params(arch).max()) / num(strategy.ep)
    tables = np.where(at.first & at.last & arch.tied, 1.0, num(at.first) + num(at.last)) * embedding_params(arch)
    unit = layer * (2 * wide + strategy.gradient_bytes) + tables * (wide + strategy.gradient_bytes)
    return np.where(apart & (strategy.shards > 1), unit / num(strategy.tp), 0.0)


def in_flight(strategy: TrainStrategy, at: Stages) -> Array:
    """Micro-batches whose activations a stage holds at once.

    1F1B: as many as stages from this one to the last (Narayanan et al. 2019).  Interleaved: virtual stages of
    2 (stages behind) + (v - 1) stages + 1 micro-batches, each a v-th of the layers, which for the first stage is
    pp + (pp - 1)/v (Korthikanti et al. 2022, section 4.2.3).
    """
    behind = num(strategy.pp) - 1 - at.index
    chunks = num(strategy.interleave)
    deep = np.where(chunks > 1, (2 * behind + (chunks - 1) * num(strategy.pp) + 1) / chunks, behind + 1)
    return np.minimum(deep, num(strategy.accumulation))


def _activations(arch: Arch, strategy: TrainStrategy, seq: float, at: Stages) -> Array:
    """Tensors kept for the backward pass, of every micro-batch in flight, with the first stage's embedding."""
    whole = kept_bytes(arch, strategy, seq)
    short = {"full": input_bytes(arch, strategy), "ops": ops_bytes(arch, strategy)}.get(strategy.recompute, whole)
    share = strategy.recompute_share
    kept = at.layers * (share * short + (1 - share) * whole) + num(at.first) * 2 * arch.hidden
    return np.asarray(tokens(strategy, seq) * kept * strategy.value_bytes / 2 * in_flight(strategy, at))


def _at_work(arch: Arch, strategy: TrainStrategy, seq: float, at: Stages) -> Array:
    """The peak beyond what is kept: the loss, or the backward pass of one layer: its gradients, and its tensors anew
    where it is recomputed; never both at once."""
    again = 2.0 if strategy.recompute in ("full", "ops") else 1.0
    layer = kept_bytes(arch, strategy, seq) * strategy.value_bytes / 2
    logits = num(at.last) * arch.vocab / num(strategy.tp) * _LOGIT_BYTES[strategy.kernels.fused_loss]
    return np.asarray(tokens(strategy, seq) * np.maximum(logits, again * layer))


def _reserve(strategy: TrainStrategy, at: Stages) -> Array:
    """Context, workspace and the collective library's buffers."""
    alone = np.asarray(strategy.gpus == 1)
    found = [
        max(g.reserve_bytes for g in kinds) + np.where(alone, 0.0, max(comm_bytes(g, 8) for g in kinds))
        for kinds in at.kinds
    ]
    return np.stack(found).reshape(len(found), *(alone.shape or (1,) * (at.layers.ndim - 1)))
