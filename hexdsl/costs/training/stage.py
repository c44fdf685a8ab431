"""Seconds of one micro-batch in a pipeline stage, by cause."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hexdsl.costs.arch import Arch, active_layer_params, embedding_params, layer_params
from hexdsl.costs.gpu import Formats, Gpu, compute_format
from hexdsl.costs.stage import together
from hexdsl.costs.training.coefficients import Coefficients, efficiency
from hexdsl.costs.training.layout import Kinds, Stages
from hexdsl.costs.training.strategy import Array, TrainStrategy, num
from hexdsl.costs.training.work import attention_flops, forward_traffic, widths

_LOGIT_BYTES = {True: 18.0, False: 34.0}
"""Traffic per logit.  In eager mode: write 16 bits; to 32 bits 6; log-softmax 8; its gradient 8; back to 16 bits 6; two
products 6.  A fused loss reads 16 bits twice and writes the gradient once, beside the three products."""


@dataclass(frozen=True, slots=True)
class Causes:
    """Seconds by cause, of a layer or of a stage."""

    products: Array
    attention: Array
    memory: Array
    recompute: Array
    launch: Array

    @property
    def total(self) -> Array:
        return self.products + self.attention + self.memory + self.recompute + self.launch

    def times(self, n: Array) -> Causes:
        return Causes(*(getattr(self, f.name) * n for f in fields(self)))

    def plus(self, other: Causes) -> Causes:
        return Causes(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Compute:
    """A micro-batch's forward pass and its backward pass with what is recomputed."""

    forward: Causes
    backward: Causes

    @property
    def both(self) -> Causes:
        return self.forward.plus(self.backward)


def tokens(strategy: TrainStrategy, seq: float) -> Array:
    """Tokens of a micro-batch on one rank."""
    return num(strategy.micro_batch) * seq / num(strategy.cp)


def formats(gpu: Gpu, strategy: TrainStrategy) -> tuple[str, str]:
    """The formats in which this GPU multiplies layers, and attention with the head.

    Raises ValueError where it has neither these nor wider ones.
    """
    narrow = "fp8" if strategy.precision == "fp8" else "bf16" if strategy.precision != "fp32" else "fp32"
    wide = "fp32" if strategy.precision == "fp32" else "bf16"
    return tuple(compute_format(gpu, Formats(activations=name)) for name in (narrow, wide))  # type: ignore[return-value]


def layer_compute(gpu: Gpu, arch: Arch, strategy: TrainStrategy, seq: float, coef: Coefficients) -> Compute:
    """One layer of the mean kind on one GPU.  The backward pass does each product twice, for inputs and weights."""
    n, tp = tokens(strategy, seq), num(strategy.tp)
    eff, (narrow, _) = efficiency(gpu), formats(gpu, strategy)
    bandwidth = gpu.bandwidth * eff.memory
    rate = gpu.flops[narrow] * coef.product_share(gpu, narrow)[0]
    reads = float(layer_params(arch).mean()) / tp / num(strategy.ep) * strategy.value_bytes / bandwidth
    products = together(reads, 2 * active_layer_params(arch) / tp * n / rate)
    attention, slower = _attention(gpu, arch, strategy, seq, coef)
    loss = coef.fused if strategy.kernels.fused else coef.eager
    values = forward_traffic(arch, strategy, seq) + _casts(arch, strategy)
    memory = values * strategy.value_bytes * loss * n / bandwidth
    again = _again(strategy)
    forward = _floored(products, attention * n, memory, np.zeros_like(products), coef.launch_s)
    redone = again[0] * products + again[1] * attention * n + again[2] * memory
    backward = _floored(2 * products, slower * attention * n, 2 * memory, redone, coef.launch_s)
    return Compute(forward, backward)


def _casts(arch: Arch, strategy: TrainStrategy) -> Array:
    """16-bit values that casting the inputs of products to fp8 moves: read two bytes, write one plain, one turned."""
    w = widths(arch, strategy)
    return (2 * w.hidden + w.out + w.inner) * (2.0 if strategy.precision == "fp8" else 0.0)


def _attention(gpu: Gpu, arch: Arch, strategy: TrainStrategy, seq: float, coef: Coefficients) -> tuple[Array, float]:
    """Forward seconds per token, and how many times as long the backward kernel takes.

    Flash attention does 5 products backward to 2 forward; its table is of single prompts, and a larger micro-batch
    fills the GPU as a longer prompt does, in part.  Unfused attention runs as ordinary products.
    """
    wide = formats(gpu, strategy)[1]
    work = attention_flops(arch, strategy, seq) / gpu.flops[wide]
    kernel = strategy.kernels.attention
    if kernel == "unfused":
        return work / coef.product_share(gpu, wide)[0], 2.0
    share = efficiency(gpu).attention_at(seq * np.sqrt(num(strategy.micro_batch)))
    return work / (share * coef.attention_ratio(gpu, kernel)), 2.5 / coef.backward


def _again(strategy: TrainStrategy) -> tuple[float, float, float]:
    """Shares of a forward pass that the backward pass repeats: products, attention, traffic.

    Flash attention repeats its core within its own kernel; unfused selective recomputation repeats it, and the
    traffic of its scores, which is most of the traffic.
    """
    unfused = strategy.kernels.attention == "unfused"
    share = strategy.recompute_share
    by_kind = {
        "none": (0.0, 0.0, 0.0),
        "selective": (0.0, share * unfused, 0.5 * share * unfused),
        "ops": (0.5 * share, 0.0, share),
        "full": (share, share, share),
    }
    return by_kind[strategy.recompute]


def _floored(products: Array, attention: Array, memory: Array, redone: Array, launch_s: float) -> Causes:
    busy = products + attention + memory + redone
    return Causes(products, attention, memory, redone, np.maximum(launch_s - busy, 0.0))


def head_compute(gpu: Gpu, arch: Arch, strategy: TrainStrategy, seq: float, coef: Coefficients) -> Compute:
    """The output head and the loss, in 16 bits; a third of it forward."""
    n, tp, wide = tokens(strategy, seq), num(strategy.tp), formats(gpu, strategy)[1]
    rate = gpu.flops[wide] * coef.product_share(gpu, wide)[0]
    products = 2 * embedding_params(arch) / tp * n / rate
    logits = _LOGIT_BYTES[strategy.kernels.fused_loss] * arch.vocab / tp * n
    memory = logits / 3 / (gpu.bandwidth * efficiency(gpu).memory)
    zero = np.zeros_like(products)
    return Compute(Causes(products, zero, memory, zero, zero), Causes(2 * products, zero, 2 * memory, zero, zero))


def stage_compute(arch: Arch, strategy: TrainStrategy, seq: float, at: Stages, coef: Coefficients) -> Compute:
    """A micro-batch in each stage, stages along axis 0; in each the slowest kind of GPU sets the pace."""
    known: dict[Kinds, Compute] = {}
    for kinds in at.kinds:
        known[kinds] = known.get(kinds) or _slowest(kinds, arch, strategy, seq, coef, at)
    rows = [(known[kinds], i) for i, kinds in enumerate(at.kinds)]
    return Compute(_rows([(c.forward, i) for c, i in rows]), _rows([(c.backward, i) for c, i in rows]))


def _slowest(kinds: Kinds, arch: Arch, strategy: TrainStrategy, seq: float, coef: Coefficients, at: Stages) -> Compute:
    found = []
    for gpu in kinds:
        layer, head = (f(gpu, arch, strategy, seq, coef) for f in (layer_compute, head_compute))
        forward = layer.forward.times(at.layers).plus(head.forward.times(num(at.last)))
        found.append(Compute(forward, layer.backward.times(at.layers).plus(head.backward.times(num(at.last)))))
    slowest = np.argmax([c.both.total for c in found], axis=0)
    return Compute(_pick([c.forward for c in found], slowest), _pick([c.backward for c in found], slowest))


def _pick(found: list[Causes], index: NDArray[np.int64]) -> Causes:
    """Elementwise the causes of the entry that the index names."""
    if len(found) == 1:
        return found[0]
    columns = ([np.broadcast_to(getattr(c, f.name), index.shape) for c in found] for f in fields(Causes))
    return Causes(*(np.choose(index, column) for column in columns))


def _rows(parts: list[tuple[Causes, int]]) -> Causes:
    return Causes(*(np.stack([getattr(c, f.name)[i] for c, i in parts]) for f in fields(Causes)))
