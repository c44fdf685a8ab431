"""From the profile of a GPU to the efficiencies that the cost model uses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hexdsl.costs.efficiency import Efficiency, MeasuredReduce, Provenance, efficiency_of, kind_of, weakest
from hexdsl.costs.gpu import Formats, Gpu, compute_format
from hexdsl.costs.network import SWITCHED
from hexdsl.costs.overheads import DEFAULT_OVERHEADS, Overheads
from hexdsl.ir.spec.profile import AllReduce, Calibration, Profile

ONE_CONFIGURATION = "one configuration"
"""What a validation says that left out whole configurations."""

STEP_ROWS = 2048
"""Rows of a product at which its rate is taken: the prompt tokens that an engine takes into a step."""


def with_profile(gpu: Gpu, profile: Profile | None) -> Gpu:
    """The GPU with the efficiencies of its profile, where it has one."""
    return replace(gpu, profile=profiled(gpu, profile)) if profile else gpu


def profiled(gpu: Gpu, profile: Profile) -> Efficiency:
    """Measured rates as shares of the GPU's peaks; what the profile lacks is that of the shipped table, and says so."""
    base = efficiency_of(gpu.kind if kind_of(gpu.kind) else profile.gpu)
    attention = _attention(gpu, profile)
    found = Efficiency(
        kind=base.kind,
        memory=_share(profile.weights_bytes_per_s, gpu.bandwidth, base.memory),
        kv=_share(profile.kv_bytes_per_s, gpu.bandwidth, base.kv),
        gemm=_gemm(gpu, profile),
        attention=attention or base.attention,
        provenance=_reads(profile, base),
        source=profile.source or f"profile of {profile.gpu}",
        attention_provenance="profiled" if attention else base.provenance,
        base=base,
        reduce=_reduce(profile.all_reduce) if profile.all_reduce else None,
        narrow=base.narrow,
        tile_rows=base.tile_rows,
    )
    return _calibrated(found, profile.calibration) if profile.calibration else found


def _share(rate: float | None, peak: float, other: float) -> float:
    return other if rate is None else min(1.0, rate / peak)


def _reads(profile: Profile, base: Efficiency) -> Provenance:
    both = profile.weights_bytes_per_s is not None and profile.kv_bytes_per_s is not None
    return "profiled" if both else weakest("profiled", base.provenance)


def _gemm(gpu: Gpu, profile: Profile) -> dict[str, float]:
    """Shares of the peak by format, where the profile spans the rows of a step; fp16 and bf16 stand for each other."""
    found = {}
    for name, curve in profile.gemm.items():
        if gpu.flops.get(name) and curve.m[0] <= STEP_ROWS <= curve.m[-1]:
            rate = float(np.interp(np.log(STEP_ROWS), np.log(curve.m), curve.flop_per_s))
            found[str(name)] = min(1.0, rate / gpu.flops[name])
    for name, other in (("bf16", "fp16"), ("fp16", "bf16")):
        if name not in found and other in found:
            found[name] = found[other]
    return found


def _attention(gpu: Gpu, profile: Profile) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if profile.attention is None:
        return None
    peak = gpu.flops[compute_format(gpu, Formats())]
    shares = tuple(min(1.0, rate / peak) for rate in profile.attention.flop_per_s)
    return tuple(map(float, profile.attention.tokens)), shares


def _reduce(found: AllReduce) -> MeasuredReduce:
    fast = max(found.bus_bytes_per_s) >= SWITCHED
    return MeasuredReduce("nvlink" if fast else "pcie", found.gpus, found.start_s, found.bus_bytes_per_s, "profiled")


def overheads_from(found: Calibration) -> Overheads:
    """The fitted overheads."""
    fitted = (found.layer_s, found.request_s, found.first_token_s, found.wait_steps, found.burst)
    own: Provenance = "profiled" if "layer overhead" not in found.undetermined else DEFAULT_OVERHEADS.provenance
    return Overheads(*fitted, own)


LEAST_BAND, LEAST_ROWS_BAND = 0.05, 0.1
"""No TPOT is claimed to be known better than this: where whole configurations were left out of the fit, and else."""

LARGEST_BAND = 0.6
FEWEST_ROWS = 10
"""Left-out rows below which their errors say too little about the range."""

NINE_IN_TEN = 2.1
"""The size that nine in ten errors stay below, over their mean size, as of a normal distribution."""


def tpot_band(found: Calibration) -> float | None:
    """Half-width of the range in which nine in ten of the rows that were left out of the fit lie; None where unknown.

    Left-out configurations speak for what is to be predicted better than left-out rows; the larger of both counts.
    """
    errors = {v.left_out: v.after for v in found.validation if v.metric == "tpot"}
    if not errors or max(e.rows for e in errors.values()) < FEWEST_ROWS:
        return None
    least = LEAST_BAND if ONE_CONFIGURATION in errors else LEAST_ROWS_BAND
    return min(LARGEST_BAND, max(least, *(NINE_IN_TEN * e.mape / 100 for e in errors.values())))


def _calibrated(efficiency: Efficiency, found: Calibration) -> Efficiency:
    factor = {name: found.factors.get(name, 1.0) for name in ("weights", "compute", "kv", "network")}
    determined = not {"weights", "kv"} & set(found.undetermined)
    return replace(
        efficiency,
        memory=min(1.0, efficiency.memory / factor["weights"]),
        kv=min(1.0, efficiency.kv / factor["kv"]),
        compute_factor=factor["compute"],
        compute_provenance=None if "compute" in found.undetermined else "profiled",
        network_factor=factor["network"],
        overheads=overheads_from(found),
        tpot_band=tpot_band(found),
        provenance="profiled" if determined else efficiency.provenance,
    )
