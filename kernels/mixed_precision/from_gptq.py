"""GPTQ checkpoints (Frantar et al., "GPTQ", arXiv 2210.17323; the files of AutoGPTQ and GPTQModel)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hexdsl.kernels.mixed_precision.formats import INT4, INT8, Codes
from hexdsl.kernels.mixed_precision.integers import reorder, unpack_int32

STORED_LESS_ONE = {"gptq": 1, "gptq_v2": 0}
"""What the format adds to zero points when it reads them: the first version stores them less one."""


def from_gptq(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Codes:
    """One layer: `qweight` int32 [K * bits / 32, N], `qzeros` int32 [G, N * bits / 32], `scales` [G, N], `g_idx` [K].

    `config` is the checkpoint's quantization_config: `bits` 4 or 8, `group_size` (-1: all inputs), `checkpoint_format`
    "gptq" (the default) or "gptq_v2".  `g_idx` names each input's group; where it is not in order (`desc_act`), the
    inputs are sorted by it and the result's `order` says how.  Raises ValueError for another config, a tensor that is
    missing, or groups of unequal sizes.
    """
    kind = {4: INT4, 8: INT8}.get(config.get("bits", 4))
    version = config.get("checkpoint_format") or "gptq"
    if kind is None or version not in STORED_LESS_ONE:
        raise ValueError(
            f"config: GPTQ with {config.get('bits')} bits, format {version!r} is not supported; "
            f"4 or 8 bits in 'gptq' or 'gptq_v2' are"
        )
    missing = {"qweight", "qzeros", "scales"} - set(tensors)
    if missing:
        raise ValueError(f"tensors: a GPTQ layer lacks {', '.join(sorted(missing))}")
    codes = unpack_int32(tensors["qweight"], kind.bits, 0).T.contiguous()
    stored = unpack_int32(tensors["qzeros"], kind.bits, 1).to(torch.int32)
    zeros = ((stored + STORED_LESS_ONE[version]) % (1 << kind.bits)).to(torch.uint8)
    size = config.get("group_size", 128)
    group = codes.shape[1] if size == -1 else size
    codes, order = reorder(codes, tensors.get("g_idx"), group)
    return Codes(kind, codes, tensors["scales"].T.contiguous(), _none_if_middle(zeros.T, kind.middle), group, order)


def _none_if_middle(zeros: Tensor, middle: int) -> Tensor | None:
    """Symmetric checkpoints store the middle code everywhere; kernels know it by heart."""
    return None if bool((zeros == middle).all()) else zeros.contiguous()
