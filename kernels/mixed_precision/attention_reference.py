"""Plain torch statements of attention over a quantised cache."""

from __future__ import annotations

import torch
from torch import Tensor

from hexdsl.kernels.mixed_precision.kv_format import KvSide, dequantise_kv
from hexdsl.kernels.mixed_precision.reference import working


def gather(side: KvSide, table: Tensor, length: int) -> Tensor:
    """The first `length` rows of a sequence, in float64 [length, kv_heads, head_dim].

    `table` [blocks of the sequence], or a single number [] : where it begins in the cache's one block.
    """
    if table.dim() == 0:
        blocks, offsets = torch.zeros(length, dtype=torch.long, device=table.device), int(table) + torch.arange(length)
    else:
        at = torch.arange(length, device=table.device)
        blocks, offsets = table[at // side.data.shape[1]].long(), at % side.data.shape[1]
    kept = None if side.statistics is None else side.statistics[blocks, :, :, offsets]
    return dequantise_kv(side.data[blocks, offsets], kept, side.format)


def attend(q: Tensor, keys: Tensor, values: Tensor, scale: float, seen: Tensor) -> Tensor:
    """softmax(scale q k) v: q [n, heads, d], keys and values [L, kv_heads, d], seen [n, L]; 0 where nothing is seen."""
    group = q.shape[1] // keys.shape[1]
    k, v = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    scores = torch.einsum("nhd,lhd->hnl", q, k) * scale
    scores = scores.masked_fill(~seen, float("-inf"))
    return torch.einsum("hnl,lhd->nhd", torch.softmax(scores, -1).nan_to_num(0.0), v)


def attention_reference(
    q: Tensor, keys: KvSide, values: KvSide, tables: Tensor, starts: Tensor, lengths: Tensor, scale: float,
    causal: bool, window: int,
) -> Tensor:  # fmt: skip
    """What `attention.prefill` computes, in float64 where q is, else in float32: [T, heads, d] in q's dtype."""
    wide, out = working(q.dtype), torch.zeros_like(q)
    for seq, length in enumerate(lengths.tolist()):
        begin, end = starts[seq : seq + 2].tolist()
        place = torch.arange(length - (end - begin), length, device=q.device)[:, None]
        at = torch.arange(length, device=q.device)[None, :]
        seen = torch.ones(end - begin, length, dtype=torch.bool, device=q.device)
        seen &= (at <= place) if causal else seen
        seen &= (at > place - window) if window else seen
        k, v = (gather(side, tables[seq], length).to(wide) for side in (keys, values))
        out[begin:end] = attend(q[begin:end].to(wide), k, v, scale, seen).to(q.dtype)
    return out
