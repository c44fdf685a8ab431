"""Writing keys and values into a paged cache in any format: the public operation."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hexdsl.kernels.mixed_precision._device import on_triton
from hexdsl.kernels.mixed_precision.checks import same_device, shape_of, type_of
from hexdsl.kernels.mixed_precision.kv_format import KV_FORMATS, KvFormat, KvSide, check_side, quantise_kv
from hexdsl.kernels.mixed_precision.kv_write_kernel import kv_write_kernel

BLOCK = 16


def write_kv(side: KvSide, rows: Tensor, slots: Tensor) -> None:
    """Rounds rows [T, kv_heads, head_dim] to the side's format and writes token i to slot `slots[i]`, in place.

    A slot is block * block_tokens + offset; a token with a slot below 0 is skipped (padding).  `slots` [T] int32 or
    int64.  Two tokens in one slot leave either.  Raises ValueError where a shape, dtype or device does not fit.
    Slots beyond the cache are the caller's error, as reading them back would cost a synchronisation.
    """
    kv_write_op(rows, side.data, side.statistics, slots, side.format.name)


@torch.library.custom_op("hexc::kv_write", mutates_args=("data", "statistics"))
def kv_write_op(rows: Tensor, data: Tensor, statistics: Tensor | None, slots: Tensor, kind: str) -> None:
    """`write_kv` on the parts of a KvSide."""
    shape_of("rows", rows, (None, None, None))
    check_side("data", data, statistics, kind, rows.shape[2], rows.shape[1])
    shape_of("slots", slots, (rows.shape[0],))
    type_of("slots", slots, torch.int32, torch.int64)
    type_of("rows", rows, torch.float16, torch.bfloat16, torch.float32)
    same_device(rows=rows, data=data, statistics=statistics, slots=slots)
    if on_triton(rows):
        launch_kv_write(rows, data, statistics, slots, KV_FORMATS[kind])
    else:
        write_reference(rows, data, statistics, slots, KV_FORMATS[kind])


@kv_write_op.register_fake
def _(rows: Tensor, data: Tensor, statistics: Tensor | None, slots: Tensor, kind: str) -> None:
    return None


def write_reference(rows: Tensor, data: Tensor, statistics: Tensor | None, slots: Tensor, kind: KvFormat) -> None:
    """The same in plain torch.  Raises IndexError for a slot beyond the cache."""
    real = slots >= 0
    places = slots[real].long()
    blocks, offsets = places // data.shape[1], places % data.shape[1]
    codes, found = quantise_kv(rows[real], kind)
    data[blocks, offsets] = codes
    if statistics is not None and found is not None:
        statistics[blocks, :, :, offsets] = found


def launch_kv_write(rows: Tensor, data: Tensor, statistics: Tensor | None, slots: Tensor, kind: KvFormat) -> None:
    """The kernel: one program for 16 tokens of a head."""
    tokens, heads, dim = rows.shape
    if tokens == 0:
        return
    rows = rows if rows.stride(2) == 1 else rows.contiguous()
    kept = statistics.stride()[:3] if statistics is not None else (0, 0, 0)
    kv_write_kernel[(triton.cdiv(tokens, BLOCK), heads)](
        rows, data, statistics, slots, tokens, *rows.stride()[:2], *data.stride()[:3], *kept,
        FORMAT=kind.name, TOKENS=data.shape[1], HALF=dim // 2, BLOCK=BLOCK, num_warps=4,
    )  # fmt: skip
