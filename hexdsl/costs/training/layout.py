"""Which layers and weights a rank of each pipeline stage holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hexdsl.costs.arch import Arch, embedding_params, expert_params, layer_params, mixture_share
from hexdsl.costs.gpu import Gpu
from hexdsl.costs.training.strategy import Array, TrainStrategy, num

Kinds = tuple[Gpu, ...]
"""Distinct GPUs of a stage; the slowest sets its pace."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Stages of one kind each along axis 0; `count` says how many stages of a pipeline an entry stands for.

    Evenly spread layers need three entries (first, inner, last), with `count` 0 for those that a strategy lacks.
    """

    layers: Array
    count: Array
    first: NDArray[np.bool_]
    last: NDArray[np.bool_]
    index: Array
    kinds: tuple[Kinds, ...]


def stages(arch: Arch, gpu: Gpu | Sequence[Kinds], strategy: TrainStrategy) -> Stages:
    """The pipeline of a strategy on one kind of GPU, or with the kinds of each stage named.

    Raises ValueError where the number of stages named differs from pp.
    """
    if isinstance(gpu, Gpu) and strategy.layers is None:
        return _even(arch, gpu, strategy)
    pp = int(num(strategy.pp))
    kinds = ((gpu,),) * pp if isinstance(gpu, Gpu) else tuple(gpu)
    layers = strategy.layers or _spread(arch.layers, pp)
    if len(kinds) != pp or len(layers) != pp:
        raise ValueError(f"{len(kinds)} stages of GPUs and {len(layers)} layer counts for {pp} stages")
    column = (pp, *(1,) * _dims(strategy))
    at = np.arange(pp).reshape(column)
    return Stages(num(layers).reshape(column), np.ones(column), at == 0, at == pp - 1, num(at), kinds)


def _even(arch: Arch, gpu: Gpu, strategy: TrainStrategy) -> Stages:
    """As many layers in each stage as whole numbers allow; the last and then the first stage, which also hold the
    vocabulary, get one less where it does not come out even."""
    pp = np.broadcast_to(num(strategy.pp), np.broadcast_shapes(*_shapes(strategy)))
    wide = np.ceil(arch.layers / pp)
    spare = wide * pp - arch.layers
    alone = pp == 1
    first, last = wide - (spare >= 2), wide - (spare >= 1)
    return Stages(
        layers=np.stack([np.where(alone, 0, first), np.where(pp > 2, wide, 0), last]),
        count=np.stack([np.where(alone, 0.0, 1.0), np.maximum(pp - 2, 0), np.ones_like(pp)]),
        first=np.stack([~alone, np.zeros_like(alone), alone]),
        last=np.stack([np.zeros_like(alone), np.zeros_like(alone), np.ones_like(alone)]),
        index=np.stack([np.zeros_like(pp), np.minimum(1, pp - 1), pp - 1]),
        kinds=((gpu,),) * 3,
    )


def _spread(layers: int, pp: int) -> tuple[int, ...]:
    """Whole layers per stage, the last and then the first one the lighter."""
    wide = -(-layers // pp)
    order = (pp - 1, *range(pp - 1))
    light = set(order[: wide * pp - layers])
    return tuple(wide - (i in light) for i in range(pp))


def _shapes(strategy: TrainStrategy) -> tuple[tuple[int, ...], ...]:
    s = strategy
    numbers = (s.tp, s.pp, s.dp, s.cp, s.ep, s.zero, s.micro_batch, s.accumulation, s.interleave)
    return tuple(np.shape(n) for n in numbers)


def _dims(strategy: TrainStrategy) -> int:
    return len(np.broadcast_shapes(*_shapes(strategy)))


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters that a rank holds before ZeRO divides them: those all ranks of a replica share, and experts."""

    dense: Array
    experts: Array

    @property
    def total(self) -> Array:
        return self.dense + self.experts


def weights(arch: Arch, strategy: TrainStrategy, at: Stages) -> Weights:
    """Parameters of a rank of each stage; experts are divided by ep as well, a tied table is held by both ends."""
    tp, ep = num(strategy.tp), num(strategy.ep)
    count = arch.experts.count if arch.experts else 0
    routed = mixture_share(arch) * count * expert_params(arch)
    copies = np.where(at.first & at.last & arch.tied, 1.0, num(at.first) + num(at.last))
    dense = at.layers * (float(layer_params(arch).mean()) - routed) + copies * embedding_params(arch)
    return Weights(dense / tp, at.layers * routed / (tp * ep))


def shard(strategy: TrainStrategy, held: Weights, stage: int) -> Array:
    """What is left of the weights on a rank where ZeRO of at least `stage` divides them over its replicas."""
    divides = num(strategy.zero) >= stage
    ranks = strategy.shards
    split = held.dense / ranks + held.experts * num(strategy.ep) / ranks
    return np.where(divides, split, held.total)
