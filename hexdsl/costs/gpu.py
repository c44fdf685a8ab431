"""What the cost model is told: GPUs, links, and number formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hexdsl.costs.efficiency import Efficiency

BYTES_PER_VALUE = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5, "fp4": 0.5}

SCALE_BYTES = {"int4": 2.5, "fp4": 1.0}
"""Bytes that each group of values adds: a 16-bit scale and a 4-bit zero point for int4, an fp8 scale for fp4."""

DEFAULT_GROUP = {"int4": 128, "fp4": 16}
"""GPTQ and AWQ share a scale among 128 values, NVFP4 among 16."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of accelerator: bytes, bytes/s, and dense peak FLOP/s by number format.

    `usable_bytes` is what the driver leaves of `memory_bytes`; `reserve_bytes` is kept for context, graphs and
    workspace.  `profile` holds efficiencies measured on the user's own GPU and goes before the shipped ones.
    """

    name: str
    memory_bytes: float
    bandwidth: float
    flops: Mapping[str, float] = field(hash=False)
    usable_bytes: float | None = None
    reserve_bytes: float = 2e9
    profile: Efficiency | None = field(default=None, hash=False)
    like: str = ""
    """The catalogued kind whose shipped measurements apply, where the GPU has another name."""

    @property
    def kind(self) -> str:
        return self.like or self.name


@dataclass(frozen=True, slots=True)
class Link:
    """A link, per direction: bytes/s, and seconds one way."""

    bandwidth: float
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Formats:
    """Number formats by name: `fp32 bf16 fp16 fp8 int8 int4 fp4`; `group` is how many weights share a scale."""

    weights: str = "bf16"
    activations: str = "bf16"
    kv: str = "bf16"
    group: int | None = None

    def __post_init__(self) -> None:
        for name in (self.weights, self.activations, self.kv):
            if name not in BYTES_PER_VALUE:
                raise ValueError(f"unknown number format `{name}`: one of {', '.join(BYTES_PER_VALUE)}")

    @property
    def weight_bytes(self) -> float:
        """Bytes per weight of the layers, scales included."""
        group = self.group or DEFAULT_GROUP.get(self.weights)
        return BYTES_PER_VALUE[self.weights] + (SCALE_BYTES.get(self.weights, 2.0) / group if group else 0.0)

    @property
    def wide_bytes(self) -> float:
        """Bytes per value of what is never quantised below 16 bits: embeddings, and activations between GPUs."""
        return max(2.0, BYTES_PER_VALUE[self.activations])

    @property
    def kv_bytes(self) -> float:
        return BYTES_PER_VALUE[self.kv]


def compute_format(gpu: Gpu, formats: Formats) -> str:
    """The format in which this GPU multiplies: that of the activations, or the nearest wider one that it has.

    Raises ValueError where the GPU has no rate for any.
    """
    for name in (formats.activations, "bf16", "fp16", "fp32"):
        if gpu.flops.get(name):
            return name
    raise ValueError(f"GPU `{gpu.name}` has no compute rate for {formats.activations}, bf16, fp16 or fp32")
