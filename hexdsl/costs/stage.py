"""Time of one transformer layer, and of the output head, on a tensor-parallel group: the roofline that all else uses.

Symbols: b sequences in a step, c tokens of context each, s tokens of a prompt.  All functions take arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hexdsl.costs.arch import (
    Arch,
    active_experts,
    active_layer_params,
    decode_attention_flops,
    embedding_params,
    expert_params,
    kv_shards,
    kv_values,
    launches,
    layer_params,
    mixture_share,
    prefill_attention_flops,
)
from hexdsl.costs.efficiency import Efficiency, Provenance, efficiency_of, weakest
from hexdsl.costs.gpu import Formats, Gpu, Link, compute_format
from hexdsl.costs.network import AllReduce, all_reduce
from hexdsl.costs.overheads import DEFAULT_OVERHEADS, Overheads

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds by cause.  `compute` is what arithmetic adds beyond reading the weights."""

    weights: Array
    compute: Array
    kv: Array
    network: Array
    overhead: Array

    @property
    def total(self) -> Array:
        return self.weights + self.compute + self.kv + self.network + self.overhead

    def plus(self, other: Parts, times: ArrayLike = 1.0) -> Parts:
        """This and `times` the other, cause by cause."""
        n = np.asarray(times)
        return Parts(
            self.weights + n * other.weights,
            self.compute + n * other.compute,
            self.kv + n * other.kv,
            self.network + n * other.network,
            self.overhead + n * other.overhead,
        )


def nothing(like: ArrayLike) -> Parts:
    """No time at all, in the shape of `like`."""
    zero = np.zeros_like(np.asarray(like, dtype=np.float64))
    return Parts(zero, zero, zero, zero, zero)


@dataclass(frozen=True, slots=True)
class GpuCost:
    """One GPU's share of a layer: seconds for its reads and its arithmetic."""

    read_s: float
    expert_read_s: float
    token_s: float
    kv_read_s: float
    kv_token_s: float
    square_s: float
    head_read_s: float
    head_token_s: float
    efficiency: Efficiency
    provenance: Provenance


@cache
def gpu_cost(gpu: Gpu, arch: Arch, formats: Formats, tp: int = 1) -> GpuCost:
    """The average layer of `arch` on one of `tp` equal shards.  Raises ValueError where the GPU has no usable format.

    Reads go at the memory share of the bandwidth; products at the compute format's share of its peak; attention and
    the output head run in 16 bits.
    """
    eff = gpu.profile or efficiency_of(gpu.kind)
    name = compute_format(gpu, formats)
    wide = compute_format(gpu, Formats())
    (share, trust), (wide_share, _) = eff.gemm_at(name), eff.gemm_at(wide)
    weights, read_trust = eff.weights_at(formats.weights)
    read, flops, wide_flops = gpu.bandwidth * weights, gpu.flops[name] * share, gpu.flops[wide] * wide_share
    routed = mixture_share(arch) * expert_params(arch)
    count = arch.experts.count if arch.experts else 0
    always = float(layer_params(arch).mean()) - routed * count
    table = embedding_params(arch)
    return GpuCost(
        read_s=always * formats.weight_bytes / tp / read,
        expert_read_s=routed * formats.weight_bytes / tp / read,
        token_s=2 * active_layer_params(arch) / tp / flops,
        kv_read_s=kv_values(arch) * formats.kv_bytes / float(kv_shards(arch, tp)) / (gpu.bandwidth * eff.kv),
        kv_token_s=decode_attention_flops(arch) / tp / wide_flops,
        square_s=prefill_attention_flops(arch) / tp / gpu.flops[wide],
        head_read_s=table * formats.wide_bytes / tp / (gpu.bandwidth * eff.memory),
        head_token_s=2 * table / tp / wide_flops,
        efficiency=eff,
        provenance=weakest(read_trust, trust, _layer_trust(arch, eff)),
    )


def _layer_trust(arch: Arch, eff: Efficiency) -> Provenance:
    """The shipped shares are of dense layers: for experts and latent attention they only stand in, until calibrated."""
    unlike = (arch.experts or arch.latent) and eff.overheads is None
    return "modelled" if unlike else eff.provenance


def overheads_of(gpu: Gpu) -> Overheads:
    """What was fitted to the user's own runs on this GPU, else the shipped figures."""
    return (gpu.profile and gpu.profile.overheads) or DEFAULT_OVERHEADS


def together(read: ArrayLike, arithmetic: ArrayLike) -> Array:
    """Seconds of reading and computing that overlap in part: the root of the sum of squares.

    Between the larger of the two and their sum; measured layer times of dense models lie within 20 % of it.
    """
    return np.asarray(np.hypot(read, arithmetic))


@dataclass(frozen=True, slots=True)
class StageCost:
    """A layer on a group of `tp` GPUs in equal shards: the slowest GPU sets the pace."""

    arch: Arch
    gpus: tuple[GpuCost, ...]
    reduce: AllReduce
    token_bytes: float
    overheads: Overheads

    @property
    def provenance(self) -> Provenance:
        return weakest(*(g.provenance for g in self.gpus))

    def decode(self, batch: ArrayLike, context: ArrayLike) -> Parts:
        """Seconds per layer of one decode step of b sequences with mean context c."""
        b, c = np.asarray(batch, dtype=np.float64), np.asarray(context, dtype=np.float64)
        reads = [g.read_s + g.expert_read_s * active_experts(self.arch, b) for g in self.gpus]
        dense = [together(read, g.token_s * b) for read, g in zip(reads, self.gpus, strict=True)]
        caches = [together(g.kv_read_s, g.kv_token_s) * b * c for g in self.gpus]
        slowest = np.argmax([d + k for d, k in zip(dense, caches, strict=True)], axis=0)
        weights, both, kv = (np.choose(slowest, np.broadcast_arrays(*x)) for x in (reads, dense, caches))
        return self._parts(weights, both, kv, self._reduces(b))

    def prefill(self, tokens: ArrayLike, cv: float = 0.0) -> Array:
        """Seconds per layer that a prompt of s tokens adds to steps which run anyway: arithmetic and traffic.

        With prompts of s tokens on average, `cv` their standard deviation over s, attention takes E[s^2].
        """
        s = np.asarray(tokens, dtype=np.float64)
        slowest = np.max([g.token_s * s + (1 + cv**2) * _square(g, s) for g in self.gpus], axis=0)
        return np.asarray(slowest + 2 * s * self.token_bytes * self.reduce.s_per_byte)

    def alone(self, tokens: ArrayLike) -> Array:
        """Seconds per layer of a step that holds one prompt of s tokens and nothing else."""
        s = np.asarray(tokens, dtype=np.float64)
        reads = [g.read_s + g.expert_read_s * active_experts(self.arch, s) for g in self.gpus]
        slowest = [together(r, g.token_s * s) + _square(g, s) for r, g in zip(reads, self.gpus, strict=True)]
        return np.asarray(np.max(slowest, axis=0) + self._reduces(s) + self._launches_s)

    def mixed(self, batch: ArrayLike, context: ArrayLike) -> Array:
        """Seconds per layer by which the attention of b decodes is slower in a step that also holds a prompt's chunk.

        FlashAttention-2 takes such a batch through its prefill kernel: a decode fills one row of a tile of query rows,
        for each query head, and the whole tile is computed, at the rate of prefill attention over that context.
        """
        b, c = np.asarray(batch, dtype=np.float64), np.asarray(context, dtype=np.float64)
        if self.arch.latent:  # its kernels are others
            return np.zeros_like(b * c)
        return np.asarray(np.max([_tile_excess(g, c) * b * c for g in self.gpus], axis=0))

    def head(self, batch: ArrayLike) -> Parts:
        """Seconds of the output head and of sampling and scheduling b sequences, on the last stage."""
        b = np.asarray(batch, dtype=np.float64)
        both = np.max([together(g.head_read_s, g.head_token_s * b) for g in self.gpus], axis=0)
        weights = np.full_like(b, max(g.head_read_s for g in self.gpus))
        zero = np.zeros_like(b)
        return Parts(weights, np.asarray(both - weights), zero, zero, self.overheads.request_s * b)

    def _reduces(self, tokens: Array) -> Array:
        return 2 * self.reduce.seconds(tokens * self.token_bytes)

    def _parts(self, weights: Array, both: Array, kv: Array, network: Array) -> Parts:
        return Parts(weights, both - weights, kv, network, np.full_like(kv, self._launches_s))

    @property
    def _launches_s(self) -> float:
        return self.overheads.layer_s * launches(self.arch)


def _square(gpu: GpuCost, tokens: Array) -> Array:
    return np.asarray(gpu.square_s * tokens**2 / gpu.efficiency.attention_at(tokens))


def _tile_excess(gpu: GpuCost, context: Array) -> Array:
    """Seconds per token of context: two products of a row with keys and values, each twice a causal prompt's mean."""
    tile = 2 * gpu.efficiency.tile_rows * gpu.square_s / gpu.efficiency.attention_at(context)
    return np.asarray(np.maximum(0.0, tile - together(gpu.kv_read_s, gpu.kv_token_s)))


def stage_cost(
    gpus: Sequence[Gpu],
    link: Link | None,
    arch: Arch,
    formats: Formats,
    overheads: Overheads | None = None,
) -> StageCost:
    """The cost of a layer on this group; `link` joins its GPUs and None means PCIe.

    Left out, the overheads are those of the GPUs' profiles, the largest where they differ.
    """
    kinds = sorted(set(gpus), key=lambda g: g.name)
    return StageCost(
        arch=arch,
        gpus=tuple(gpu_cost(gpu, arch, formats, len(gpus)) for gpu in kinds),
        reduce=all_reduce(gpus, link),
        token_bytes=arch.hidden * formats.wide_bytes,
        overheads=overheads or max((overheads_of(gpu) for gpu in kinds), key=lambda o: o.layer_s),
    )
