"""AWQ checkpoints (Lin et al., "AWQ", arXiv 2306.00978; the files of AutoAWQ, version "gemm")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hexdsl.kernels.mixed_precision.formats import INT4, Codes
from hexdsl.kernels.mixed_precision.integers import unpack_int32

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The output, of each eight, that the fields of a word hold from the lowest up."""


def from_awq(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Codes:
    """One layer: `qweight` int32 [K, N / 8], `qzeros` int32 [G, N / 8], `scales` [G, N].

    `config` is the checkpoint's quantization_config: `bits` 4, `group_size` (-1: all inputs), `version` "gemm",
    `zero_point`.  Raises ValueError for another one, or a tensor that is missing.
    """
    bits, version = config.get("bits", 4), str(config.get("version", "gemm")).lower()
    if bits != 4 or version != "gemm":
        raise ValueError(f"config: AWQ with {bits} bits, version {version!r} is not supported; 4 bits, 'gemm' is")
    zeroed = config.get("zero_point", True)
    missing = {"qweight", "scales", *(("qzeros",) if zeroed else ())} - set(tensors)
    if missing:
        raise ValueError(f"tensors: an AWQ layer lacks {', '.join(sorted(missing))}")
    codes = unpack_int32(tensors["qweight"], 4, 1, ORDER).T.contiguous()
    zeros = unpack_int32(tensors["qzeros"], 4, 1, ORDER).T.contiguous() if zeroed else None
    size = config.get("group_size", 128)
    group = codes.shape[1] if size == -1 else size
    return Codes(INT4, codes, tensors["scales"].T.contiguous(), zeros, group)
