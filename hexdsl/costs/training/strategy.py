"""How a training step is spread over GPUs, and the fabric that joins them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hexdsl.costs.arch import Arch, tp_divides
from hexdsl.costs.gpu import Link
from hexdsl.costs.network import PCIE

Array = NDArray[np.float64]

Precision = Literal["fp32", "bf16", "fp16", "fp8"]
Recompute = Literal["none", "selective", "ops", "full"]
Offload = Literal["none", "optimizer", "all"]
Attention = Literal["unfused", "flash1", "flash2", "flash3"]


def num(value: ArrayLike) -> Array:
    """The value as an array of floats."""
    return np.asarray(value, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Kernels:
    """What the training framework runs.

    `unfused` attention writes its scores to memory; `flash1` is the first FlashAttention or its Triton form, `flash2`
    FlashAttention-2 and PyTorch's default, `flash3` FlashAttention-3 or cuDNN.  `fused` joins element-wise operations
    (torch.compile, Transformer Engine), `fused_loss` those of the loss.
    """

    attention: Attention = "flash3"
    fused: bool = True
    fused_loss: bool = True
    dropout: bool = False
    overlap_tp: bool = False
    overlap_dp: bool = True


DEFAULT_KERNELS = Kernels()


@dataclass(frozen=True, slots=True)
class TrainStrategy:
    """Degrees of parallelism and how memory is saved.  Numbers may be arrays of one shape, for many strategies at once.

    Ranks are numbered tp first, then cp, dp (of which ep is the inner part) and pp.  `accumulation` counts the
    micro-batches of a step, `interleave` the virtual stages of a rank.  `selective` recomputes the core of attention
    (Korthikanti et al. 2022), `ops` every second product (PyTorch's selective checkpointing), `full` whole layers;
    `recompute_share` of the layers do so.  `layers` are the layers of each stage where they are not spread evenly.
    """

    tp: ArrayLike = 1
    pp: ArrayLike = 1
    dp: ArrayLike = 1
    cp: ArrayLike = 1
    ep: ArrayLike = 1
    zero: ArrayLike = 0
    micro_batch: ArrayLike = 1
    accumulation: ArrayLike = 1
    interleave: ArrayLike = 1
    recompute: Recompute = "none"
    recompute_share: float = 1.0
    sequence_parallel: bool = False
    precision: Precision = "bf16"
    gradient_bytes: float = 2.0
    """Bytes of a gradient while it is accumulated and exchanged: 2 in DeepSpeed, 4 in Megatron-LM and FSDP."""
    offload: Offload = "none"
    layers: tuple[int, ...] | None = None
    kernels: Kernels = DEFAULT_KERNELS

    @property
    def gpus(self) -> Array:
        return num(self.tp) * num(self.pp) * num(self.dp) * num(self.cp)

    @property
    def global_batch(self) -> Array:
        """Sequences of a step."""
        return num(self.dp) * num(self.micro_batch) * num(self.accumulation)

    @property
    def value_bytes(self) -> float:
        """Bytes of a weight that computes, and of an activation."""
        return 4.0 if self.precision == "fp32" else 2.0

    @property
    def shards(self) -> Array:
        """Ranks that hold the same weights, over which ZeRO divides."""
        return num(self.dp) * num(self.cp)


HOST = Link(25e9)
"""PCIe 4 x16 to the host, as it is reached."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """Links of one GPU: to the others of its machine, to other machines (its share of the NICs), and to the host.

    `host_bandwidth` is its share of the host's memory bandwidth in bytes/s, which an offloaded optimizer needs.
    """

    inside: Link = PCIE
    outside: Link | None = None
    node_gpus: int = 8
    host: Link = HOST
    host_bandwidth: float = 25e9


def faults(arch: Arch, strategy: TrainStrategy) -> tuple[str, ...]:
    """Why stock engines cannot run this one strategy; empty where they can."""
    s = strategy
    tp, pp, dp, cp, ep = (int(num(x)) for x in (s.tp, s.pp, s.dp, s.cp, s.ep))
    chunks, batches, zero = int(num(s.interleave)), int(num(s.accumulation)), int(num(s.zero))
    numbers = (tp, pp, dp, cp, ep, chunks, batches, int(num(s.micro_batch)))
    split = s.layers or (1,) * pp
    found = (
        (min(numbers) < 1, "every degree, the micro-batch and the accumulation are 1 or more"),
        (not 0 <= zero <= 3, f"ZeRO has stages 0 to 3, not {zero}"),
        (tp > 0 and not tp_divides(arch, tp), f"tp {tp} does not divide the {arch.heads} heads"),
        (pp > arch.layers, f"{pp} stages for {arch.layers} layers"),
        (len(split) != pp, f"{len(split)} layer counts for {pp} stages"),
        (s.layers is not None and sum(split) != arch.layers, f"stages hold {sum(split)} layers of {arch.layers}"),
        (min(split, default=1) < 1, "a stage without layers"),
        (chunks > 1 and pp == 1, "virtual stages need a pipeline"),
        (chunks > 1 and pp * chunks > arch.layers + 2, f"{pp * chunks} virtual stages for {arch.layers} layers"),
        (chunks > 1 and pp > 0 and batches % pp > 0, f"virtual stages need micro-batches in multiples of {pp}"),
        (ep > 1 and arch.experts is None, "expert parallelism needs experts"),
        (ep > 1 and arch.experts is not None and arch.experts.count % ep > 0, f"ep {ep} does not divide the experts"),
        (ep > 0 and dp * cp % ep > 0, f"ep {ep} does not divide dp {dp} times cp {cp}"),
        (s.sequence_parallel and tp == 1, "sequence parallelism needs tensor parallelism"),
    )
    return tuple(text for wrong, text in found if wrong)
