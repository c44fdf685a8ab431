"""Tensor parallelism inside a stage (Shoeybi et al., "Megatron-LM", 2019): who holds which rows, and the reductions.

Queries, keys, values, gate and up are split by output rows, `o_proj` and `down_proj` by input columns and summed over
the group; embedding and head are split by vocabulary.  Where there are more ranks than KV heads, heads are repeated.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PretrainedConfig

from hexdsl.runtime.checkpoint import Slice
from hexdsl.runtime.config import RuntimeFault


@dataclass(frozen=True)
class Team:
    """The ranks of one stage: this rank's place among `size`, and their process group (None where it is alone)."""

    index: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the team, in place."""
        if self.size > 1:
            dist.all_reduce(x, group=self.group)
        return x

    def concat(self, x: Tensor, widths: list[int]) -> Tensor:
        """Joins [n, widths[i]] of every member along the last axis."""
        if self.size == 1:
            return x
        widest = max(widths)
        padded = nn.functional.pad(x, (0, widest - x.shape[-1])).contiguous()
        parts = [torch.empty_like(padded) for _ in widths]
        dist.all_gather(parts, padded, group=self.group)
        return torch.cat([part[..., :width] for part, width in zip(parts, widths, strict=True)], dim=-1)


def head_dim(config: PretrainedConfig) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def local_config(config: PretrainedConfig, tp: int) -> PretrainedConfig:
    """The config of one rank's share of each layer.  Raises `RuntimeFault` where TP does not divide the layer."""
    heads, kv_heads, ffn = config.num_attention_heads, config.num_key_value_heads, config.intermediate_size
    if heads % tp or ffn % tp or (kv_heads % tp and tp % kv_heads):
        raise RuntimeFault(f"TP {tp} does not divide {heads} heads, {kv_heads} KV heads and {ffn} MLP columns")
    share = copy.deepcopy(config)
    share.head_dim = head_dim(config)
    share.num_attention_heads = heads // tp
    share.num_key_value_heads = max(1, kv_heads // tp)
    share.intermediate_size = ffn // tp
    return share


def share_of(name: str, config: PretrainedConfig, team: Team) -> Slice | None:
    """The part of a layer's tensor (`self_attn.q_proj.weight`) that this rank holds; None for all of it."""
    if team.size == 1:
        return None
    module, _, kind = name.rpartition(".")
    match module.rpartition(".")[2]:
        case "q_proj":
            return _even(0, config.num_attention_heads * head_dim(config), team)
        case "k_proj" | "v_proj":
            return _kv_rows(config, team)
        case "gate_proj" | "up_proj":
            return _even(0, config.intermediate_size, team)
        case "o_proj" if kind == "weight":
            return _even(1, config.num_attention_heads * head_dim(config), team)
        case "down_proj" if kind == "weight":
            return _even(1, config.intermediate_size, team)
    return None


def _even(dim: int, size: int, team: Team) -> Slice:
    each = size // team.size
    return Slice(dim, team.index * each, (team.index + 1) * each)


def _kv_rows(config: PretrainedConfig, team: Team) -> Slice:
    held = max(1, config.num_key_value_heads // team.size)
    first = team.index * config.num_key_value_heads // team.size
    return Slice(0, first * head_dim(config), (first + held) * head_dim(config))


def vocabulary_share(vocab: int, team: Team) -> Slice:
    """Rows of the embedding or head: even, the last rank may hold fewer."""
    each = -(-vocab // team.size)
    return Slice(0, min(vocab, team.index * each), min(vocab, (team.index + 1) * each))


class RowParallel(nn.Module):
    """A linear layer split by input columns: partial products are summed over the team, then the bias is added."""

    def __init__(self, linear: nn.Linear, team: Team) -> None:
        super().__init__()
        self.weight, self.bias, self.team = linear.weight, linear.bias, team

    def forward(self, x: Tensor) -> Tensor:
        total = self.team.sum(nn.functional.linear(x, self.weight))
        return total if self.bias is None else total + self.bias


class VocabularyEmbedding(nn.Module):
    """Embedding rows `[start, end)`; other ids give zero, and the team's sum is the embedding."""

    def __init__(self, weight: Tensor, part: Slice, team: Team) -> None:
        super().__init__()
        self.weight, self.part, self.team = nn.Parameter(weight, requires_grad=False), part, team

    def forward(self, ids: Tensor) -> Tensor:
        mine = (ids >= self.part.start) & (ids < self.part.end)
        rows = nn.functional.embedding((ids - self.part.start) * mine, self.weight)
        return self.team.sum(rows * mine[..., None])


class VocabularyHead(nn.Module):
    """Logits [n, vocabulary] in float32, joined from the team's parts of the vocabulary."""

    def __init__(self, weight: Tensor, vocab: int, team: Team) -> None:
        super().__init__()
        self.weight, self.team = nn.Parameter(weight, requires_grad=False), team
        parts = (vocabulary_share(vocab, Team(i, team.size)) for i in range(team.size))
        self.widths = [part.end - part.start for part in parts]

    def forward(self, x: Tensor) -> Tensor:
        return self.team.concat(nn.functional.linear(x, self.weight).float(), self.widths)
