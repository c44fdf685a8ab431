"""Checkpoints of compressed-tensors (the files of llm-compressor), and single-format fp8 and mxfp4 checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hexdsl.kernels.mixed_precision.formats import FP8, INT4, INT8, MXFP4, PLANE, Codes, Format
from hexdsl.kernels.mixed_precision.integers import reorder, unpack_int32

Tensors = Mapping[str, Tensor]
Scheme = Mapping[str, Any]


def from_compressed_tensors(tensors: Tensors, config: Scheme, layer: str = "") -> Codes:
    """One layer of a checkpoint whose quantization_config is `config`; `layer` picks its config group.

    Formats, with the layer's tensors: "pack-quantized" (`weight_packed` int32 [N, K * bits / 32], `weight_shape`,
    `weight_scale` [N, G], and perhaps `weight_zero_point`, `weight_g_idx`), "int-quantized" (`weight` int8 [N, K]),
    "float-quantized" and "naive-quantized" (`weight` e4m3 or int8 [N, K]), "mxfp4-pack-quantized" (`weight_packed`
    uint8 [N, K / 2], `weight_scale` uint8 [N, K / 32]).  Scales may be for the tensor, each output, groups or blocks.
    Raises ValueError for what is none of these, and for a tensor that is missing.
    """
    group = config_group(config, layer)
    name = group.get("format") or config.get("format") or ""
    reader = READERS.get(name)
    if reader is None:
        raise ValueError(f"config: compressed-tensors format {name!r} is not supported; {', '.join(READERS)} are")
    return reader(tensors, group.get("weights") or {})


def config_group(config: Scheme, layer: str) -> Scheme:
    """The config group that a layer's name falls under: a target is a name, "re:" and a pattern, or a class name.

    Class names fit every layer, after the targets that name it.  Raises ValueError where nothing fits.
    """
    groups = tuple((config.get("config_groups") or {}).values())
    for fits in (_names, _is_class):
        for group in groups:
            if any(fits(target, layer) for target in group.get("targets", ())):
                return group  # type: ignore[no-any-return]
    raise ValueError(f"config: no config group of the checkpoint fits layer {layer!r}")


def _names(target: str, layer: str) -> bool:
    return re.match(target[3:], layer) is not None if target.startswith("re:") else target == layer


def _is_class(target: str, _: str) -> bool:
    return re.fullmatch(r"[A-Z]\w*", target) is not None


def _need(tensors: Tensors, *names: str) -> tuple[Tensor, ...]:
    missing = [name for name in names if name not in tensors]
    if missing:
        raise ValueError(f"tensors: a compressed-tensors layer lacks {', '.join(missing)}")
    return tuple(tensors[name] for name in names)


def _packed(tensors: Tensors, weights: Scheme) -> Codes:
    """Integers, shifted to start from 0, eight or four to a word along the inputs, the lowest bits first."""
    kind = _integer(weights)
    packed, scale, shape = _need(tensors, "weight_packed", "weight_scale", "weight_shape")
    n, k = shape.tolist()
    codes = unpack_int32(packed, kind.bits, 1)[:n, :k].contiguous()
    scales, group = spread(scale, n, k, weights)
    zeros = _zeros(tensors.get("weight_zero_point"), n, kind)
    codes, order = reorder(codes, _grouped(tensors.get("weight_g_idx")), group)
    return Codes(kind, codes, scales, zeros, group, order)


def _grouped(g_idx: Tensor | None) -> Tensor | None:
    """Some writers store -1 everywhere for "in order"."""
    return None if g_idx is None or bool((g_idx < 0).all()) else g_idx


def _zeros(stored: Tensor | None, n: int, kind: Format) -> Tensor | None:
    """Signed zero points as codes: packed along the outputs in int32, or one a byte in older files."""
    if stored is None:
        return None
    if stored.dtype == torch.int32:
        return unpack_int32(stored, kind.bits, 0)[:n].contiguous()
    return (stored.to(torch.int32) + kind.middle).to(torch.uint8)


def _integer(weights: Scheme) -> Format:
    kind = {4: INT4, 8: INT8}.get(weights.get("num_bits", 0))
    if kind is None or weights.get("type", "int") != "int":
        raise ValueError(
            f"config: {weights.get('num_bits')} bits of type {weights.get('type')!r}; int 4 or 8 is needed"
        )
    return kind


def _plain(tensors: Tensors, weights: Scheme) -> Codes:
    """One code a byte: int8 or e4m3."""
    weight, scale = _need(tensors, "weight", "weight_scale")
    n, k = weight.shape
    scales, group = spread(scale, n, k, weights)
    if weight.dtype == torch.float8_e4m3fn:
        return Codes(FP8, weight.view(torch.uint8), scales, None, group)
    if weight.dtype != torch.int8:
        raise ValueError(f"weight: {weight.dtype} is not supported; int8 and float8_e4m3fn are")
    zeros = _zeros(tensors.get("weight_zero_point"), n, INT8)
    return Codes(INT8, (weight.to(torch.int16) + 128).to(torch.uint8), scales, zeros, group)


def _mxfp4(tensors: Tensors, _: Scheme) -> Codes:
    packed, scale = _need(tensors, "weight_packed", "weight_scale")
    return from_mxfp4(packed, scale)


def spread(scale: Tensor, n: int, k: int, weights: Scheme) -> tuple[Tensor, int]:
    """Scales [N, G] and the group size, from scales of the tensor, of outputs, of groups, or of blocks.

    Raises ValueError for a shape that fits none.
    """
    block = weights.get("block_structure")
    if scale.numel() == 1:
        return scale.reshape(1, 1).expand(n, 1).contiguous(), k
    if block:
        return scale.repeat_interleave(block[0], 0)[:n].contiguous(), block[1]
    if scale.dim() != 2 or scale.shape[0] != n:
        raise ValueError(f"weight_scale: shape {tuple(scale.shape)} fits no strategy for {n} outputs")
    return scale.contiguous(), k if scale.shape[1] == 1 else weights.get("group_size") or 128


READERS: Mapping[str, Callable[[Tensors, Scheme], Codes]] = {
    "pack-quantized": _packed,
    "int-quantized": _plain,
    "float-quantized": _plain,
    "naive-quantized": _plain,
    "mxfp4-pack-quantized": _mxfp4,
}


def from_mxfp4(blocks: Tensor, scales: Tensor) -> Codes:
    """mxfp4 weights: `blocks` uint8 [N, K / 2] or [N, K / 32, 16], the earlier input in the low nibble; `scales` uint8
    [N, K / 32].  Raises ValueError for other shapes or types."""
    packed = blocks.flatten(1) if blocks.dim() == 3 else blocks
    if packed.dtype != torch.uint8 or scales.dtype != torch.uint8 or packed.dim() != 2:
        raise ValueError(f"blocks: uint8 [N, K / 2] and uint8 scales are needed, not {blocks.dtype} {scales.dtype}")
    codes = torch.stack((packed & 0xF, packed >> 4), -1).flatten(1)
    return Codes(MXFP4, codes, scales.contiguous(), None, PLANE)


def from_fp8(tensors: Tensors, config: Scheme) -> Codes:
    """A layer of an "fp8" checkpoint: `weight` e4m3 [N, K] and `weight_scale_inv` for blocks of
    `weight_block_size` (DeepSeek-V3 report, arXiv 2412.19437, section 3.3.2), or `weight_scale`.

    Raises ValueError for another type, or a tensor that is missing.
    """
    scale = "weight_scale_inv" if "weight_scale_inv" in tensors else "weight_scale"
    weight, factors = _need(tensors, "weight", scale)
    return _plain({"weight": weight, "weight_scale": factors}, {"block_structure": config.get("weight_block_size")})
