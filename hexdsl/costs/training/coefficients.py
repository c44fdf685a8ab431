"""The numbers that measurements, not datasheets, give to the training model; shipped as data with their sources."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from hexdsl.costs.efficiency import Efficiency, Provenance, efficiency_of, kind_of
from hexdsl.costs.gpu import Gpu


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Few and shared: every model, size and strategy uses the same.

    `sustained` and `attention` are factors on the efficiency table; the others are ratios.
    """

    sustained: Mapping[str, Mapping[str, float]] = field(hash=False)
    """Products in a running step over the same products measured alone: clocks fall under power limits."""
    sustained_other: float
    attention: Mapping[str, Mapping[str, float]] = field(hash=False)
    """Forward attention over the table's prefill kernels, by training kernel and kind of GPU."""
    backward: float
    """Efficiency of attention's backward kernel over its forward one."""
    fused: float
    eager: float
    """Memory traffic over the counted one, at the GPU's memory efficiency."""
    contention: float
    """Share of an overlapped collective that still costs time."""
    tp_hidden: float
    """Share of tensor-parallel traffic that overlapping hides."""
    nic_share: float
    launch_s: float
    """Least seconds per layer and pass: the host launches no faster."""
    fragmentation: float
    """Memory that the allocator holds beyond what is in use, as a share."""
    band: Mapping[Provenance, float] = field(hash=False)

    def product_share(self, gpu: Gpu, name: str) -> tuple[float, Provenance]:
        """Share of the peak that matrix products keep in a training step, in a number format.

        Where a profile holds a factor for arithmetic that was fitted to serving runs, the larger loss counts, once.
        """
        eff = gpu.profile or efficiency_of(gpu.kind)
        share, source = eff.gemm_at(name)
        ratio = self.sustained.get(kind_of(gpu.kind) or "", {}).get("fp8" if name == "fp8" else "bf16")
        if eff.compute_provenance == "profiled":  # a factor fitted to running engines holds part of the same loss
            return share * min(1.0, (ratio or self.sustained_other) * eff.compute_factor), source
        if ratio is None:
            return share * self.sustained_other, "modelled"
        return share * ratio, source

    def attention_ratio(self, gpu: Gpu, kernel: str) -> float:
        """Factor on the table's attention efficiency; a kind that was not measured gets the lowest of the others."""
        known = self.attention.get(kernel, {})
        return known.get(kind_of(gpu.kind) or "", min(known.values(), default=1.0))


@cache
def table() -> dict[str, Any]:
    """The data file as it is: each coefficient with `value`, `source` and `note`."""
    text = files("hexdsl.costs.training").joinpath("coefficients.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def default_coefficients() -> Coefficients:
    return Coefficients(**{name: entry["value"] for name, entry in table()["coefficients"].items()})


def efficiency(gpu: Gpu) -> Efficiency:
    return gpu.profile or efficiency_of(gpu.kind)
