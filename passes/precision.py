"""Which number formats the model has on each kind of GPU."""

from __future__ import annotations

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.ir.plan import Plan, Precision
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import Format, Model
from hexdsl.ir.spec.serve import Serve
from hexdsl.passes.inventory import groups_of

LOW = ("fp8", "int8")
"""Weight formats in which a GPU may also multiply, when the activations have the same format."""


def precision(plan: Plan) -> Plan:
    """Settles the formats of weights, activations and KV cache per kind of GPU, and the compute rate that follows.

    Weight-only formats (int4, or fp8 on a GPU without fp8) multiply at the rate of the 16-bit activations
    (TurboMind, section 3: weights are dequantised in registers).  Needs nothing, gives `precision`.
    """
    serve = plan.workflow
    assert isinstance(serve, Serve)
    kinds = {g.gpus.gpu.name: g.gpus.gpu for g in groups_of(serve.on)}
    return plan.with_(precision=tuple(formats_on(gpu, serve.model) for _, gpu in sorted(kinds.items())))


def formats_on(gpu: Gpu, model: Model) -> Precision:
    """The formats of one model on one kind of GPU, with the reason for the compute format.

    Raises NoPlanError (P002) where the GPU has no rate for attention and the output head, which are never narrower
    than 16 bits.
    """
    if not getattr(gpu, wide(gpu)):
        message = f"`{gpu.name}` has no compute rate for bf16, fp16 or fp32, in which attention runs"
        raise NoPlanError(
            [Diagnostic("P002", message, (), f"write one in `gpu {gpu.name}`, such as `bf16 = 100TFLOP/s`")]
        )
    weights = model.weights.kind
    activations = (model.activations or Format(kind=_activations(gpu, weights))).kind
    kv = (model.kv or Format(kind=activations if activations in ("fp32", "bf16", "fp16") else wide(gpu))).kind
    compute, reason = _compute(gpu, weights, activations)
    return Precision(gpu=gpu.name, weights=weights, activations=activations, kv=kv, compute=compute, reason=reason)


def wide(gpu: Gpu) -> str:
    """The widest tensor format that the GPU multiplies quickly: bf16, else fp16, else fp32."""
    return next((f for f in ("bf16", "fp16") if getattr(gpu, f)), "fp32")


def _activations(gpu: Gpu, weights: str) -> str:
    if weights == "fp32":
        return "fp32"
    if weights in LOW and getattr(gpu, weights):
        return weights
    return weights if weights in ("bf16", "fp16") and getattr(gpu, weights) else wide(gpu)


def _compute(gpu: Gpu, weights: str, activations: str) -> tuple[str, str]:
    if activations == weights and getattr(gpu, weights, None):
        return weights, f"{gpu.name} multiplies {weights} directly"
    fallback = activations if getattr(gpu, activations, None) else wide(gpu)
    if weights == fallback:
        return fallback, f"{gpu.name} multiplies {weights} directly"
    return fallback, f"{weights} weights are widened to {fallback}, the format in which {gpu.name} multiplies"
