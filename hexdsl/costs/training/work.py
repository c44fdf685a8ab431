"""What a token costs in one layer: FLOPs, memory traffic, and the tensors that the backward pass needs.

Counts are of values, per token and layer (mean over the layers), of one GPU in a tensor-parallel group.  They extend
the counting of Korthikanti et al. 2022 (section 4) to gated feed-forward blocks, grouped-query and latent attention,
flash attention and mixtures of experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hexdsl.costs.arch import Arch, kv_shards, mixture_share, prefill_attention_flops
from hexdsl.costs.training.strategy import Array, TrainStrategy, num


@dataclass(frozen=True, slots=True)
class Widths:
    """Values per token and GPU: of the residual stream in full and as a block holds it between products, of queries,
    of keys with values, of attention's output, of the feed-forward block's inner tensor, and of tokens sent to experts.
    """

    hidden: float
    stream: Array
    query: Array
    kv: Array
    out: Array
    inner: Array
    routed: Array
    score: Array
    matrices: int


def widths(arch: Arch, strategy: TrainStrategy) -> Widths:
    """Sequence parallelism divides the residual stream as well; KV heads are copied where tp exceeds them."""
    tp = num(strategy.tp)
    rope = arch.latent.rope_dim if arch.latent else 0
    value = arch.latent.v_dim if arch.latent else arch.head_dim
    kv = arch.heads / tp if arch.latent else arch.kv_heads / kv_shards(arch, tp)
    return Widths(
        hidden=float(arch.hidden),
        stream=arch.hidden / (tp if strategy.sequence_parallel else np.ones_like(tp)),
        query=arch.heads * (arch.head_dim + rope) / tp,
        kv=np.asarray(kv * (arch.head_dim + rope + value)),
        out=arch.heads * value / tp,
        inner=_inner(arch) / tp,
        routed=mixture_share(arch) * (arch.experts.per_token if arch.experts else 0) * arch.hidden / np.ones_like(tp),
        score=arch.heads / tp,
        matrices=arch.ffn_matrices,
    )


def _inner(arch: Arch) -> float:
    """Inner width of the feed-forward block that a token meets, averaged over the layers."""
    if arch.experts is None:
        return float(arch.ffn)
    share = mixture_share(arch)
    return share * arch.experts.ffn * (arch.experts.per_token + arch.experts.shared) + (1 - share) * arch.ffn


def attention_flops(arch: Arch, strategy: TrainStrategy, seq: float) -> Array:
    """Forward FLOPs of attention per token and GPU; unfused kernels also compute what the causal mask hides."""
    waste = 2.0 if strategy.kernels.attention == "unfused" else 1.0
    return waste * prefill_attention_flops(arch) * seq / num(strategy.tp)


def forward_traffic(arch: Arch, strategy: TrainStrategy, seq: float) -> Array:
    """Values that the forward pass of a layer reads and writes, beyond weights and flash attention's inner loop.

    Two norms (read, write) and two residual sums (read two, write one) on the stream; each product reads its input and
    writes its output; the activation reads its inputs and writes one tensor.  Unfused attention writes and reads its
    scores for the product, the softmax and the product with the values.  One kernel an operation is counted.
    """
    w = widths(arch, strategy)
    gates = w.matrices - 1
    products = 4 * w.hidden + 2 * (w.query + w.kv + w.out) + (2 * gates + 2) * w.inner
    scores = (5 + 3 * strategy.kernels.dropout) * w.score * seq if strategy.kernels.attention == "unfused" else 0.0
    return 10 * w.stream + products + 4 * w.routed + scores + _decomposed(w, strategy)


def _decomposed(w: Widths, strategy: TrainStrategy) -> Array:
    """What gated models of the Llama kind add without fusion, for want of single kernels in eager mode.

    Each RMS norm: to 32 bits (read 1, write 2), square 4, mean 2, scale 4, back 3, weight 2, less the 2 counted; rotary
    embedding of queries and keys: to 32 bits 3, product 4, back 3; the gate's activation: read and write.
    """
    if strategy.kernels.fused or w.matrices < 3:
        return np.zeros_like(w.query)
    return 32 * w.stream + 10 * (w.query + w.kv / 2) + 2 * w.inner


def kept_bytes(arch: Arch, strategy: TrainStrategy, seq: float) -> Array:
    """Bytes per token that a layer without recomputation keeps for its backward pass, with 16-bit activations.

    GPT with dropout and unfused attention gives the 34 h + 5 a s of Korthikanti et al. (table 2).  Gated models in
    eager mode also keep the activated gate, and the input of each norm in 32 bits.
    """
    w = widths(arch, strategy)
    masks = 2 * w.stream if strategy.kernels.dropout else 0.0
    attention = 2 * (w.query + w.kv) + 2 * w.out + _core_bytes(w, strategy, seq)
    gates = w.matrices - 1
    decomposed = gates > 1 and not strategy.kernels.fused
    inner = 2 * w.inner * (gates + 1 + decomposed)
    norms = 8 * w.stream * decomposed
    return 8 * w.stream + norms + masks + attention + inner + 4 * w.routed


def _core_bytes(w: Widths, strategy: TrainStrategy, seq: float) -> Array:
    if strategy.kernels.attention != "unfused":
        return 4 * w.score
    if strategy.recompute == "selective":
        return np.zeros_like(w.score)
    return (5.0 if strategy.kernels.dropout else 2.0) * w.score * seq


def ops_bytes(arch: Arch, strategy: TrainStrategy) -> Array:
    """Bytes per token kept where every second product is recomputed: half the outputs, attention, the layer's input."""
    w = widths(arch, strategy)
    outputs = w.query + w.kv + (w.matrices - 1) * w.inner + 2 * w.stream
    return outputs + 2 * w.out + 4 * w.score + 2 * w.stream + 2 * w.routed


def input_bytes(arch: Arch, strategy: TrainStrategy) -> Array:
    """Bytes per token kept of a layer that is recomputed whole: its input."""
    return 2 * widths(arch, strategy).stream
