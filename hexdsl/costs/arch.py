"""A transformer's size: parameters, KV cache and FLOPs, for dense, grouped-query, latent-attention and MoE models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, section 2.1): widths of the compressed KV and query and of a head."""

    kv_rank: int
    rope_dim: int
    v_dim: int
    q_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Experts:
    """Mixture of experts: `count` routed experts of inner width `ffn`, of which a token uses `per_token`."""

    count: int
    per_token: int
    ffn: int
    shared: int = 0
    dense_layers: int = 0
    """First layers that have an ordinary feed-forward block."""


@dataclass(frozen=True, slots=True)
class Arch:
    """An architecture.  `head_dim` is the part of a head without rotary width where `latent` is set.

    `ffn_matrices` is 3 for gated blocks (SwiGLU) and 2 for plain ones.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool = False
    max_context: int | None = None
    ffn_matrices: int = 3
    experts: Experts | None = None
    latent: Latent | None = None


def attention_params(arch: Arch) -> int:
    """Weights of one attention block."""
    if arch.latent is None:
        return arch.hidden * arch.head_dim * 2 * (arch.heads + arch.kv_heads)
    latent, h = arch.latent, arch.hidden
    q_width = arch.heads * (arch.head_dim + latent.rope_dim)
    query = h * latent.q_rank + latent.q_rank * q_width if latent.q_rank else h * q_width
    down = h * (latent.kv_rank + latent.rope_dim)
    up = latent.kv_rank * arch.heads * (arch.head_dim + latent.v_dim)
    return query + down + up + arch.heads * latent.v_dim * h


def ffn_params(arch: Arch) -> int:
    """Weights of one dense feed-forward block."""
    return arch.ffn_matrices * arch.hidden * arch.ffn


def expert_params(arch: Arch) -> int:
    """Weights of one expert; 0 without experts."""
    return arch.ffn_matrices * arch.hidden * arch.experts.ffn if arch.experts else 0


def always_params(arch: Arch) -> int:
    """Weights of a layer (of a mixture layer, where there are experts) that every token uses."""
    if arch.experts is None:
        return attention_params(arch) + ffn_params(arch)
    router = arch.hidden * arch.experts.count
    return attention_params(arch) + router + arch.experts.shared * expert_params(arch)


@cache
def layer_params(arch: Arch) -> NDArray[np.float64]:
    """Stored weights of each layer, shape (layers,), norms included."""
    norms = 2 * arch.hidden
    mixture = always_params(arch) + norms + (arch.experts.count * expert_params(arch) if arch.experts else 0)
    dense = attention_params(arch) + ffn_params(arch) + norms
    first = arch.experts.dense_layers if arch.experts else 0
    params = np.where(np.arange(arch.layers) < first, dense, mixture).astype(np.float64)
    params.setflags(write=False)
    return params


def active_layer_params(arch: Arch) -> float:
    """Weights that one token meets in a layer, averaged over the layers."""
    if arch.experts is None:
        return float(always_params(arch))
    mixture = always_params(arch) + arch.experts.per_token * expert_params(arch)
    dense = attention_params(arch) + ffn_params(arch)
    share = arch.experts.dense_layers / arch.layers
    return share * dense + (1 - share) * mixture


def slice_params(arch: Arch, start: ArrayLike, stop: ArrayLike) -> NDArray[np.float64]:
    """Stored weights of the layers start..stop-1, elementwise over arrays of bounds."""
    total = np.concatenate([[0.0], np.cumsum(layer_params(arch))])
    return np.asarray(total[np.asarray(stop)] - total[np.asarray(start)])


def embedding_params(arch: Arch) -> int:
    """Weights of one vocabulary matrix: the input embedding, or the output head."""
    return arch.vocab * arch.hidden


def total_params(arch: Arch) -> float:
    """All weights; a tied embedding counts once."""
    return float(layer_params(arch).sum()) + embedding_params(arch) * (1 if arch.tied else 2) + arch.hidden


def active_params(arch: Arch) -> float:
    """Weights that one token meets, both vocabulary matrices included."""
    return active_layer_params(arch) * arch.layers + embedding_params(arch) * (1 if arch.tied else 2)


def kv_values(arch: Arch) -> int:
    """Values that the KV cache holds per token and layer."""
    if arch.latent:
        return arch.latent.kv_rank + arch.latent.rope_dim
    return 2 * arch.kv_heads * arch.head_dim


def kv_shards(arch: Arch, tp: ArrayLike) -> NDArray[np.float64]:
    """Into how many parts tensor parallelism divides the KV cache: KV heads are copied once tp exceeds them.

    The compressed KV of latent attention is never divided.
    """
    heads = 1 if arch.latent else arch.kv_heads
    return np.minimum(np.asarray(tp, dtype=np.float64), heads)


def prefill_attention_flops(arch: Arch) -> float:
    """FLOPs of causal attention per layer and squared prompt token."""
    if arch.latent:
        return float(arch.heads * (arch.head_dim + arch.latent.rope_dim + arch.latent.v_dim))
    return 2.0 * arch.heads * arch.head_dim


def decode_attention_flops(arch: Arch) -> float:
    """FLOPs per layer, decoded token and token of context; latent attention works on the compressed KV."""
    if arch.latent:
        return 2.0 * arch.heads * (2 * arch.latent.kv_rank + arch.latent.rope_dim)
    return 4.0 * arch.heads * arch.head_dim


def active_experts(arch: Arch, tokens: ArrayLike) -> NDArray[np.float64]:
    """Expected distinct routed experts that a step of so many tokens reads, for an even router."""
    if arch.experts is None:
        return np.zeros_like(np.asarray(tokens, dtype=np.float64))
    share = arch.experts.per_token / arch.experts.count
    return arch.experts.count * (1.0 - (1.0 - share) ** np.asarray(tokens, dtype=np.float64))


def mixture_share(arch: Arch) -> float:
    """Share of the layers that have experts."""
    return 1.0 - arch.experts.dense_layers / arch.layers if arch.experts else 0.0


def launches(arch: Arch) -> float:
    """Kernels of a layer over those of a dense layer with grouped-query attention, averaged over the layers.

    Such a layer runs about ten: norm, QKV, rotary, cache write, attention, output, norm, gate and up, activation, down.
    Latent attention has five more (two-step query, the norms between, absorbed key and value products); a mixture of
    experts four (router, top-k, sorting of tokens, weighted sum) and as many again for shared experts.
    """
    more = 5.0 if arch.latent else 0.0
    if arch.experts:
        more += mixture_share(arch) * (8 if arch.experts.shared else 4)
    return 1 + more / 10


def tp_divides(arch: Arch, tp: int) -> bool:
    """Whether stock engines can split the heads: tp divides the query heads, and tp and kv_heads divide one another."""
    kv = tp if arch.latent else arch.kv_heads
    return arch.heads % tp == 0 and (kv % tp == 0 or tp % kv == 0)
