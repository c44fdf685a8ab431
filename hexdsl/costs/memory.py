"""What fits on a GPU: weights of a stage slice, buffers and reserve, and the KV cache in what is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hexdsl.costs.arch import Arch, embedding_params, kv_shards, kv_values, slice_params
from hexdsl.costs.gpu import Formats, Gpu

_COMM_GPUS = (1, 2, 4, 8)
_COMM_BYTES = (0.0, 342 * 2**20, 392 * 2**20, 392 * 2**20)
"""NCCL buffers of an 80 GB GPU (aiconfigurator 0.12); never more than 1/64 of the memory is counted."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Limits of the serving engine: share of the memory it may take, tokens a step, and sequences at once."""

    utilisation: float = 0.90
    step_tokens: int = 2048
    max_batch: int = 256


DEFAULT_ENGINE = Engine()


@dataclass(frozen=True, slots=True)
class Slice:
    """Layers start..stop-1 on a group of `tp` GPUs.  Bounds may be arrays of one shape, for many slices at once."""

    start: ArrayLike
    stop: ArrayLike
    tp: int = 1


def weight_bytes(arch: Arch, formats: Formats, part: Slice) -> NDArray[np.float64]:
    """Weights per GPU.  The first stage holds the input embedding and the last the output head, in 16 bits.

    A tied embedding is held once by a stage that is both first and last, and by both where they differ.
    """
    first = np.asarray(part.start) == 0
    last = np.asarray(part.stop) == arch.layers
    copies = np.where(first & last & arch.tied, 1.0, first.astype(float) + last.astype(float))
    table = embedding_params(arch) * formats.wide_bytes
    return (slice_params(arch, part.start, part.stop) * formats.weight_bytes + copies * table) / part.tp


def kv_token_bytes(arch: Arch, formats: Formats, part: Slice) -> NDArray[np.float64]:
    """KV bytes per token and GPU; tp beyond the KV heads no longer shrinks them, since heads are copied."""
    layers = np.asarray(part.stop) - np.asarray(part.start)
    return np.asarray(layers * (kv_values(arch) * formats.kv_bytes) / kv_shards(arch, part.tp))


def activation_bytes(arch: Arch, formats: Formats, part: Slice, engine: Engine = DEFAULT_ENGINE) -> NDArray[np.float64]:
    """Peak of one step's activations: residual stream and block input, the wider of FFN and attention, the logits."""
    heads = (arch.heads + 2 * arch.kv_heads) * arch.head_dim
    inner = arch.experts.ffn * (arch.experts.per_token + arch.experts.shared) if arch.experts else arch.ffn
    wide = 4 * arch.hidden + max(3 * inner, heads) / part.tp
    logits = np.where(np.asarray(part.stop) == arch.layers, engine.max_batch * arch.vocab * 4.0 / part.tp, 0.0)
    return np.asarray(engine.step_tokens * wide * formats.wide_bytes + logits)


def comm_bytes(gpu: Gpu, tp: int) -> float:
    """Buffers of the collective library."""
    return min(float(np.interp(tp, _COMM_GPUS, _COMM_BYTES)), gpu.memory_bytes / 64)


def budget_bytes(gpu: Gpu, tp: int, engine: Engine = DEFAULT_ENGINE) -> float:
    """Bytes for weights, activations and KV: the engine's share of the usable memory, less reserve and buffers."""
    usable = min(gpu.memory_bytes, gpu.usable_bytes or gpu.memory_bytes)
    return usable * engine.utilisation - gpu.reserve_bytes - comm_bytes(gpu, tp)


def free_kv_bytes(
    gpu: Gpu, arch: Arch, formats: Formats, part: Slice, engine: Engine = DEFAULT_ENGINE
) -> NDArray[np.float64]:
    """Bytes left for the KV cache on one GPU; negative where the slice does not fit."""
    used = weight_bytes(arch, formats, part) + activation_bytes(arch, formats, part, engine)
    return budget_bytes(gpu, part.tp, engine) - used


def max_tokens(
    gpu: Gpu, arch: Arch, formats: Formats, part: Slice, engine: Engine = DEFAULT_ENGINE
) -> NDArray[np.float64]:
    """Whole tokens whose KV cache fits on one GPU of the slice; 0 where the weights do not fit."""
    free = np.maximum(free_kv_bytes(gpu, arch, formats, part, engine), 0.0)
    return np.floor(free / kv_token_bytes(arch, formats, part))
