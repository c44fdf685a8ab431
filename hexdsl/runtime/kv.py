"""The paged KV cache of one rank, and attention over it.

Each layer's pool is one tensor `[blocks, 2, block_tokens, kv_heads, head_dim]`: keys at 0 and values at 1 of the
second axis, `kv_heads` those of this rank.  Token `p` of a sequence lies in block `table[p // block_tokens]` at
offset `p % block_tokens` (Kwon et al., "Efficient Memory Management for LLM Serving with PagedAttention", 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from hexdsl.runtime.step import Chunk

ATTENTION = "hexc_paged"
"""The name under which `paged_attention` is registered with transformers."""


@dataclass(frozen=True, slots=True)
class Group:
    """Chunks of one length that attend together.

    `rows` [B, n] index the packed tokens, `tables` [B, m] the blocks, `positions` [B, n] the tokens' places.
    """

    rows: Tensor
    tables: Tensor
    positions: Tensor


@dataclass(frozen=True, slots=True)
class PagedStep:
    """Where the packed tokens of one step go in the pools, and what they look at.

    `positions`, `blocks`, `offsets` [T]: each token's place in its sequence, its block, and its offset there.
    """

    pools: dict[int, Tensor]
    positions: Tensor
    blocks: Tensor
    offsets: Tensor
    groups: tuple[Group, ...]


def allocate(
    layers: Iterable[int], blocks: int, block_tokens: int, kv_heads: int, head_dim: int, like: Tensor
) -> dict[int, Tensor]:
    """Zeroed pools by layer index, of the type and device of `like` (zeros: a masked NaN would still spread)."""
    shape = (blocks, 2, block_tokens, kv_heads, head_dim)
    return {layer: like.new_zeros(shape) for layer in layers}


def page(chunks: Sequence[Chunk], pools: dict[int, Tensor], block_tokens: int, device: torch.device) -> PagedStep:
    """The index tensors of a step, made once and used by every layer."""
    positions = [p for chunk in chunks for p in chunk.positions]
    blocks = [chunk.blocks[p // block_tokens] for chunk in chunks for p in chunk.positions]
    place = torch.tensor(positions, device=device)
    return PagedStep(
        pools=pools,
        positions=place,
        blocks=torch.tensor(blocks, device=device),
        offsets=place % block_tokens,
        groups=tuple(_group(members, block_tokens, device) for members in _by_length(chunks)),
    )


def _by_length(chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, Chunk]]]:
    """All single-token chunks together, each longer one alone, with the row where each begins."""
    row, single = 0, []
    for chunk in chunks:
        if len(chunk.tokens) == 1:
            single.append((row, chunk))
        else:
            yield [(row, chunk)]
        row += len(chunk.tokens)
    if single:
        yield single


def _group(members: list[tuple[int, Chunk]], block_tokens: int, device: torch.device) -> Group:
    """Tables go as far as the chunks look; shorter ones are filled up with block 0, which the mask hides."""
    width = max(-(-chunk.positions.stop // block_tokens) for _, chunk in members)
    tables = [[*chunk.blocks, *[0] * width][:width] for _, chunk in members]
    rows = [list(range(row, row + len(chunk.tokens))) for row, chunk in members]
    positions = [list(chunk.positions) for _, chunk in members]
    return Group(*(torch.tensor(x, device=device) for x in (rows, tables, positions)))


def paged_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    paged: PagedStep,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Writes the step's keys and values to the pool, then attends: the attention function of transformers' modules.

    `query` [1, heads, T, head_dim], `key` and `value` [1, kv_heads, T, head_dim]; returns [1, T, heads, head_dim].
    """
    pool = paged.pools[int(module.layer_idx)]  # type: ignore[arg-type]
    pool[paged.blocks, 0, paged.offsets] = key[0].transpose(0, 1)
    pool[paged.blocks, 1, paged.offsets] = value[0].transpose(0, 1)
    out = query.new_empty(query.shape[2], query.shape[1], query.shape[3])
    for group in paged.groups:
        out[group.rows] = _attend(query[0], pool, group, scaling, sliding_window)
    return out[None], None


def _attend(query: Tensor, pool: Tensor, group: Group, scaling: float, window: int | None) -> Tensor:
    """[B, n, heads, head_dim] for the rows of one group."""
    keys, values = (pool[group.tables, i].flatten(1, 2).transpose(1, 2) for i in (0, 1))
    seen = torch.arange(keys.shape[2], device=query.device)
    mask = seen <= group.positions[..., None]
    if window is not None:
        mask &= seen > group.positions[..., None] - window
    q = query[:, group.rows].transpose(0, 1)
    out = scaled_dot_product_attention(q, keys, values, mask[:, None], scale=scaling, enable_gqa=True)
    return out.transpose(1, 2)


AttentionInterface.register(ATTENTION, paged_attention)
