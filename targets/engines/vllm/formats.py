"""Number formats of a plan in vLLM's words, and the devices that have them (vLLM 0.32)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hexdsl.ir.plan import Precision
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.targets.devices import is_cpu

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Formats that need no quantisation: `--dtype`."""

KV = {"fp8": "fp8", "int8": "int8_per_token_head", "int4": "int4_per_token_head", "fp4": "nvfp4"}
"""Formats of a KV cache that is narrower than the activations: `--kv-cache-dtype`."""

KV_BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4}

PER_HEAD = ("int8", "int4", "fp4")
"""KV formats with scales beside the values, which NixlConnector does not know of."""

LEAST_SM, BF16_SM, NARROW_KV_SM, FP4_SM = 75, 80, 80, 100
"""Least compute capability, times ten: for vLLM at all, for bf16, for a KV cache in 8 or 4 bits, to compute in fp4."""


FLASHINFER_SM = 80
"""From here on FlashInfer's attention runs, whatever vLLM would choose by itself."""


@dataclass(frozen=True, slots=True)
class Words:
    """What vLLM is told about formats.  `kv` is empty where the KV cache has the format of the activations."""

    dtype: str
    kv: str


def words_of(precision: Precision, gpu: Gpu) -> Words:
    """The formats in vLLM's words; `why_not` has no reason against them."""
    wide = _wide(precision, gpu)
    return Words(DTYPES[wide], "" if precision.kv == wide else KV[precision.kv])


def why_not(precision: Precision, gpu: Gpu) -> str | None:
    """Why vLLM does not run these formats on the device, or None: the end of a sentence that begins with `it`."""
    weights, activations, kv, wide = precision.weights, precision.activations, precision.kv, _wide(precision, gpu)
    if weights in DTYPES and weights != activations:
        return f"keeps plain weights in the format of the activations, and the plan has {weights} and {activations}"
    if activations not in (*DTYPES, weights):
        return f"does not multiply {weights} weights with {activations} activations"
    if kv != wide and kv not in KV:
        return f"keeps the KV cache in {wide} or narrower, and the plan has {kv}"
    return _why_not_cpu(weights, kv) if is_cpu(gpu) else _why_not_gpu(precision, gpu)


def _why_not_cpu(weights: str, kv: str) -> str | None:
    if weights in ("fp8", "fp4"):
        return f"does not run {weights} weights on a CPU"
    return f"does not keep the KV cache in {kv} on a CPU" if kv in PER_HEAD else None


def _why_not_gpu(precision: Precision, gpu: Gpu) -> str | None:
    """Only NVIDIA's GPUs have a compute capability; of the others nothing is known here."""
    sm = gpu.sm
    if sm is None:
        return None
    missing = next((what for least, what in _needs(precision, gpu) if sm < least), None)
    return missing and f"{missing}, and {gpu.name} has compute capability {sm / 10}"


def _needs(precision: Precision, gpu: Gpu) -> Iterator[tuple[int, str]]:
    yield LEAST_SM, f"needs compute capability {LEAST_SM / 10}"
    if _wide(precision, gpu) == "bf16":
        yield BF16_SM, f"needs compute capability {BF16_SM / 10} for bf16"
    if precision.kv in KV:
        yield NARROW_KV_SM, f"needs compute capability {NARROW_KV_SM / 10} for a KV cache in {precision.kv}"
    if "fp4" in (precision.activations, precision.kv):
        yield FP4_SM, f"needs compute capability {FP4_SM / 10} for fp4"


def _wide(precision: Precision, gpu: Gpu) -> str:
    """The format of the activations around quantised layers."""
    if precision.activations in DTYPES:
        return precision.activations
    return "bf16" if gpu.bf16 else "fp16"
