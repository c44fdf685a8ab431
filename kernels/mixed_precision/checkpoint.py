"""Finding the quantised layers among a checkpoint's tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hexdsl.kernels.mixed_precision.formats import Codes
from hexdsl.kernels.mixed_precision.from_awq import from_awq
from hexdsl.kernels.mixed_precision.from_compressed_tensors import from_compressed_tensors, from_fp8
from hexdsl.kernels.mixed_precision.from_gptq import from_gptq

PARTS: Mapping[str, frozenset[str]] = {
    "awq": frozenset({"qweight", "qzeros", "scales"}),
    "gptq": frozenset({"qweight", "qzeros", "scales", "g_idx"}),
    "compressed-tensors": frozenset(
        {"weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"}
    ),
    "fp8": frozenset({"weight", "weight_scale", "weight_scale_inv"}),
}
"""The names, by the config's `quant_method`, under which a layer's tensors are stored."""

MARKS = frozenset({"qweight", "weight_packed", "weight_scale", "weight_scale_inv"})
"""A layer that has none of these is not quantised."""


def import_layers(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, Codes], dict[str, Tensor]]:
    """The quantised layers of a checkpoint by name, and all tensors that belong to none of them.

    `tensors` are those of its safetensors files, `config` its quantization_config.  Raises ValueError, with the
    layer's name, for a method or a layer that is not supported.
    """
    method = str(config.get("quant_method"))
    if method not in PARTS:
        raise ValueError(f"config: quant_method {method!r} is not supported; {', '.join(PARTS)} are")
    layers = {name: parts for name, parts in _by_layer(tensors, PARTS[method]).items() if MARKS & set(parts)}
    used = {f"{name}.{part}" for name, parts in layers.items() for part in parts}
    codes = {name: _read(method, name, layers[name], config) for name in sorted(layers)}
    return codes, {name: tensor for name, tensor in tensors.items() if name not in used}


def _by_layer(tensors: Mapping[str, Tensor], parts: frozenset[str]) -> dict[str, dict[str, Tensor]]:
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        if part in parts:
            layers[layer][part] = tensor
    return layers


def _read(method: str, name: str, parts: Mapping[str, Tensor], config: Mapping[str, Any]) -> Codes:
    try:
        if method == "compressed-tensors":
            return from_compressed_tensors(parts, config, name)
        return {"awq": from_awq, "gptq": from_gptq, "fp8": from_fp8}[method](parts, config)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
