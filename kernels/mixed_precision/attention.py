"""Attention with queries in 16 bits and keys and values in 16, 8 or 4: the public operations.

Queries float16 or bfloat16; keys and values each in any format of `kv_format`, in any combination.  Keys and values
lie in a paged cache, or packed: then `KvSide.data` has one block that holds all sequences one after another, and
`tables` [B] says where each begins.
"""

from __future__ import annotations

import math

import torch
import triton
from torch import Tensor

from hexdsl.kernels.mixed_precision._device import architecture, on_triton
from hexdsl.kernels.mixed_precision.attention_reference import attention_reference
from hexdsl.kernels.mixed_precision.checks import same_device, shape_of, type_of
from hexdsl.kernels.mixed_precision.configs import DECODE, PREFILL, splits_for, tile_for
from hexdsl.kernels.mixed_precision.decode_kernel import decode_kernel, merge_kernel
from hexdsl.kernels.mixed_precision.kv_format import KV_FORMATS, KvSide, check_side
from hexdsl.kernels.mixed_precision.prefill_kernel import prefill_kernel

EVERYTHING = (1 << 31) - 1
"""A window that hides nothing; also an upper bound of positions, so that differences stay within int32."""


def decode(
    q: Tensor,
    keys: KvSide,
    values: KvSide,
    tables: Tensor,
    lengths: Tensor,
    scale: float | None = None,
    window: int = 0,
) -> Tensor:
    """One query for each sequence, at its last position: q [B, heads, d] to [B, heads, d].

    `tables` [B, m] int32 are the sequences' blocks, or [B] the begins in a packed cache; `lengths` [B] int32 count the
    query's own token.  `scale` is 1 / sqrt(d) unless given; `window` > 0 shows the last so many tokens.  The sequence
    is cut into splits that run side by side; their outputs are merged exactly by their log-sum-exp, in fixed order.
    A length of 0 gives zeros.  Raises ValueError where a shape, dtype or device does not fit.
    """
    out: Tensor = decode_op(
        q, keys.data, values.data, keys.statistics, values.statistics, tables, lengths, _scale(scale, q), window,
        keys.format.name, values.format.name,
    )  # fmt: skip
    return out


def prefill(
    q: Tensor, keys: KvSide, values: KvSide, tables: Tensor, starts: Tensor, lengths: Tensor, longest: int,
    scale: float | None = None, causal: bool = True, window: int = 0,
) -> Tensor:  # fmt: skip
    """Packed queries of sequences of different lengths: q [T, heads, d] to [T, heads, d].

    Sequence b has the queries `starts[b]` to `starts[b + 1]` (`starts` [B + 1] int32), which are its last tokens, and
    `lengths[b]` keys in all; `longest` is at least the most queries of a sequence.  The rest as in `decode`; causal or
    not; a window needs causal.  Raises ValueError where a shape, dtype or device does not fit.
    """
    out: Tensor = prefill_op(
        q, keys.data, values.data, keys.statistics, values.statistics, tables, starts, lengths, longest,
        _scale(scale, q), causal, window, keys.format.name, values.format.name,
    )  # fmt: skip
    return out


def _scale(scale: float | None, q: Tensor) -> float:
    return float(q.shape[-1] ** -0.5) if scale is None else scale


@torch.library.custom_op("hexc::mixed_decode", mutates_args=())
def decode_op(
    q: Tensor, keys: Tensor, values: Tensor, key_statistics: Tensor | None, value_statistics: Tensor | None,
    tables: Tensor, lengths: Tensor, scale: float, window: int, key_format: str, value_format: str,
) -> Tensor:  # fmt: skip
    """`decode` on the parts of two KvSides."""
    sides = _sides(q, keys, values, key_statistics, value_statistics, key_format, value_format)
    _check(q, sides, tables, lengths, window)
    shape_of("lengths", lengths, (q.shape[0],))
    if on_triton(q):
        return launch_decode(q, *sides, tables, lengths, scale, window)
    starts = torch.arange(q.shape[0] + 1, device=q.device)
    return attention_reference(q, *sides, tables, starts, lengths, scale, True, window)


@decode_op.register_fake
def _(
    q: Tensor, keys: Tensor, values: Tensor, key_statistics: Tensor | None, value_statistics: Tensor | None,
    tables: Tensor, lengths: Tensor, scale: float, window: int, key_format: str, value_format: str,
) -> Tensor:  # fmt: skip
    return q.new_empty(q.shape)


@torch.library.custom_op("hexc::mixed_prefill", mutates_args=())
def prefill_op(
    q: Tensor, keys: Tensor, values: Tensor, key_statistics: Tensor | None, value_statistics: Tensor | None,
    tables: Tensor, starts: Tensor, lengths: Tensor, longest: int, scale: float, causal: bool, window: int,
    key_format: str, value_format: str,
) -> Tensor:  # fmt: skip
    """`prefill` on the parts of two KvSides."""
    sides = _sides(q, keys, values, key_statistics, value_statistics, key_format, value_format)
    _check(q, sides, tables, lengths, window)
    shape_of("starts", starts, (lengths.shape[0] + 1,))
    type_of("starts", starts, torch.int32, torch.int64)
    if window and not causal:
        raise ValueError("window: a window needs causal attention")
    if on_triton(q):
        return launch_prefill(q, *sides, tables, starts, lengths, longest, scale, causal, window)
    return attention_reference(q, *sides, tables, starts, lengths, scale, causal, window)


@prefill_op.register_fake
def _(
    q: Tensor, keys: Tensor, values: Tensor, key_statistics: Tensor | None, value_statistics: Tensor | None,
    tables: Tensor, starts: Tensor, lengths: Tensor, longest: int, scale: float, causal: bool, window: int,
    key_format: str, value_format: str,
) -> Tensor:  # fmt: skip
    return q.new_empty(q.shape)


def _sides(
    q: Tensor, keys: Tensor, values: Tensor, key_statistics: Tensor | None, value_statistics: Tensor | None,
    key_format: str, value_format: str,
) -> tuple[KvSide, KvSide]:  # fmt: skip
    """Both sides of the cache, checked against the queries."""
    shape_of("q", q, (None, None, None))
    kv_heads = keys.shape[2] if keys.dim() == 4 else 0
    check_side("keys", keys, key_statistics, key_format, q.shape[2], kv_heads)
    check_side("values", values, value_statistics, value_format, q.shape[2], kv_heads)
    if values.shape[:2] != keys.shape[:2]:
        raise ValueError(f"values: {tuple(values.shape[:2])} blocks and tokens, but keys have {tuple(keys.shape[:2])}")
    if kv_heads == 0 or q.shape[1] % kv_heads:
        raise ValueError(f"q: {q.shape[1]} heads are no multiple of {kv_heads} key heads")
    return (
        KvSide(KV_FORMATS[key_format], keys, key_statistics),
        KvSide(KV_FORMATS[value_format], values, value_statistics),
    )


def _check(q: Tensor, sides: tuple[KvSide, KvSide], tables: Tensor, lengths: Tensor, window: int) -> None:
    if tables.dim() not in (1, 2) or tables.shape[0] != lengths.shape[0]:
        raise ValueError(
            f"tables: shape {tuple(tables.shape)}, but ({lengths.shape[0]}, blocks) or one begin each is needed"
        )
    if tables.dim() == 1 and sides[0].data.shape[0] != 1:
        raise ValueError("tables: begins are for a packed cache, which has one block")
    type_of("tables", tables, torch.int32, torch.int64)
    type_of("lengths", lengths, torch.int32, torch.int64)
    if window < 0:
        raise ValueError(f"window: {window} is negative; 0 is no window")
    if tables.stride(-1) != 1:
        raise ValueError("tables: the last dimension must be contiguous")
    same_device(q=q, keys=sides[0].data, values=sides[1].data, tables=tables, lengths=lengths)


def _most_keys(tables: Tensor, keys: KvSide) -> int:
    """An upper bound of lengths that costs no synchronisation."""
    return keys.data.shape[1] * (tables.shape[1] if tables.dim() == 2 else 1)


def _strides(keys: KvSide, values: KvSide, tables: Tensor) -> tuple[int, ...]:
    """The kernels' arguments from k_block to table_row."""
    kept = [side.statistics.stride()[:3] if side.statistics is not None else (0, 0, 0) for side in (keys, values)]
    return (*keys.data.stride()[:3], *values.data.stride()[:3], *kept[0], *kept[1], tables.stride(0))


def _check_kernel(q: Tensor) -> Tensor:
    type_of("q", q, torch.float16, torch.bfloat16)
    return q if q.stride(2) == 1 else q.contiguous()


def launch_decode(
    q: Tensor, keys: KvSide, values: KvSide, tables: Tensor, lengths: Tensor, scale: float, window: int
) -> Tensor:
    """The kernel, and where there is more than one split the merge."""
    q, arch = _check_kernel(q), architecture(q)
    batch, heads, dim = q.shape
    kv_heads = keys.data.shape[2]
    out = torch.empty_like(q)
    if batch == 0:
        return out
    group = heads // kv_heads
    tile = tile_for(DECODE, arch, group)
    splits = splits_for(batch * kv_heads, triton.cdiv(_most_keys(tables, keys), tile.columns), arch)
    partial = out[None] if splits == 1 else q.new_empty(splits, batch, heads, dim, dtype=torch.float32)
    lse = q.new_empty(splits, batch, heads, dtype=torch.float32)
    decode_kernel[(batch, kv_heads, splits)](
        q, keys.data, values.data, keys.statistics, values.statistics, tables, lengths, partial, lse,
        scale * math.log2(math.e), window or EVERYTHING, heads, *q.stride()[:2], *_strides(keys, values, tables),
        *partial.stride()[:3], lse.stride(0),
        K_FORMAT=keys.format.name, V_FORMAT=values.format.name, TOKENS=_page(tables, keys), GROUP=group,
        HEADS=max(8, triton.next_power_of_2(group)), HALF=dim // 2, BN=tile.columns,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out if splits == 1 else merge_splits(partial, lse, out)


def _page(tables: Tensor, keys: KvSide) -> int:
    """Tokens of a block; 0 for a packed cache."""
    return keys.data.shape[1] if tables.dim() == 2 else 0


def merge_splits(partial: Tensor, lse: Tensor, out: Tensor) -> Tensor:
    """out [n, heads, d] = the sum of partial [splits, n, heads, d], weighted by exp2 of lse [splits, n, heads]."""
    splits, rows, heads, dim = partial.shape
    merge_kernel[(rows, heads)](
        partial, lse, out, heads, *partial.stride()[:3], lse.stride(0), *out.stride()[:2],
        SPLITS=splits, SPLIT_BLOCK=triton.next_power_of_2(splits), DIM=dim,
    )  # fmt: skip
    return out


def launch_prefill(
    q: Tensor, keys: KvSide, values: KvSide, tables: Tensor, starts: Tensor, lengths: Tensor, longest: int,
    scale: float, causal: bool, window: int,
) -> Tensor:  # fmt: skip
    """The kernel, and where there is more than one split (few queries, many keys) the merge."""
    q, arch = _check_kernel(q), architecture(q)
    tokens, heads, dim = q.shape
    kv_heads = keys.data.shape[2]
    out = torch.empty_like(q)
    if tokens == 0 or longest <= 0:
        return out.zero_()
    group = heads // kv_heads
    tile = tile_for(PREFILL, arch, longest * group)
    blocks = triton.cdiv(longest * group, tile.rows)
    pieces = triton.cdiv(_most_keys(tables, keys), tile.columns)
    splits = splits_for(blocks * kv_heads * len(lengths), pieces, arch)
    partial = out[None] if splits == 1 else q.new_empty(splits, tokens, heads, dim, dtype=torch.float32)
    lse = q.new_empty(splits, tokens, heads, dtype=torch.float32)
    prefill_kernel[(blocks, kv_heads, len(lengths) * splits)](
        q, keys.data, values.data, keys.statistics, values.statistics, tables, starts, lengths, partial, lse,
        scale * math.log2(math.e), window or EVERYTHING, heads, *q.stride()[:2], *_strides(keys, values, tables),
        *partial.stride()[:3], lse.stride(0),
        K_FORMAT=keys.format.name, V_FORMAT=values.format.name, TOKENS=_page(tables, keys), GROUP=group,
        CAUSAL=causal, SPLITS=splits, HALF=dim // 2, BM=tile.rows, BN=tile.columns,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out if splits == 1 else merge_splits(partial, lse, out)
