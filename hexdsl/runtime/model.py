"""One rank's part of the model: transformers' own layers over the paged KV cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from hexdsl.runtime.checkpoint import Checkpoint, Slice
from hexdsl.runtime.config import EngineConfig, RuntimeFault
from hexdsl.runtime.kv import ATTENTION, allocate, page
from hexdsl.runtime.link import link
from hexdsl.runtime.parallel import (
    RowParallel,
    Team,
    VocabularyEmbedding,
    VocabularyHead,
    local_config,
    share_of,
    vocabulary_share,
)
from hexdsl.runtime.step import Step


class Part(nn.Module):
    """The modules of one rank: layers by index, the embedding on the first stage, norm and head on the last."""

    def __init__(self, layers: dict[int, nn.Module], rotary: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers.values())
        self.rotary = rotary
        self.embedding: VocabularyEmbedding | None = None
        self.norm: nn.Module | None = None
        self.head: VocabularyHead | None = None

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.parameters())


@dataclass(frozen=True)
class Stage:
    """A part with its KV pools: runs steps."""

    part: Part
    pools: dict[int, Tensor]
    block_tokens: int
    device: torch.device

    @property
    def kv_bytes(self) -> int:
        return sum(pool.numel() * pool.element_size() for pool in self.pools.values())

    @torch.inference_mode()
    def hidden(self, step: Step, incoming: Tensor | None, among: slice = slice(None)) -> Tensor:
        """[T, width] after this rank's layers, or those of them that `among` says, counted from its first.

        `incoming` [T, width] is of the stage before, None on the first.
        """
        hidden = self._embed(step) if incoming is None else incoming
        paged = page(step.chunks, self.pools, self.block_tokens, self.device)
        places = paged.positions[None]
        hidden = hidden[None]
        angles = self.part.rotary(hidden, places)
        for layer in self.part.layers[among]:
            hidden = layer(hidden, position_ids=places, position_embeddings=angles, paged=paged)
        return hidden[0]

    @torch.inference_mode()
    def logits(self, step: Step, hidden: Tensor) -> Tensor:
        """[draws, vocabulary], float32, after the chunks that have a draw.  The whole last stage must call this."""
        assert self.part.norm
        assert self.part.head
        rows = torch.tensor(list(_last_rows(step)), dtype=torch.long, device=self.device)
        logits: Tensor = self.part.head(self.part.norm(hidden[rows]))
        return logits

    def _embed(self, step: Step) -> Tensor:
        assert self.part.embedding
        ids = [token for chunk in step.chunks for token in chunk.tokens]
        embedded: Tensor = self.part.embedding(torch.tensor(ids, device=self.device))
        return embedded


def _last_rows(step: Step) -> Iterator[int]:
    end = 0
    for chunk in step.chunks:
        end += len(chunk.tokens)
        if chunk.draw:
            yield end - 1


def build(config: EngineConfig, checkpoint: Checkpoint, rank: int, team: Team) -> Stage:
    """Loads this rank's layers and allocates its KV pools.  Raises `RuntimeFault` where config and weights disagree."""
    count = checkpoint.config.num_hidden_layers
    if config.stages[-1].layers[1] != count:
        raise RuntimeFault(f"{checkpoint.folder} has {count} layers, the stages cover {config.stages[-1].layers[1]}")
    positions = checkpoint.config.max_position_embeddings
    if config.limits.max_context > positions:
        raise RuntimeFault(f"max_context is {config.limits.max_context}, the model has {positions} positions")
    index = config.stage_of(rank)
    loader = Loader(checkpoint, team, getattr(torch, config.model.dtype), torch.device(config.device))
    part = loader.part(config.stages[index].span, first=index == 0, last=index == len(config.stages) - 1)
    share = loader.share
    like = torch.empty(0, dtype=loader.dtype, device=loader.device)
    kv = config.kv
    pools = allocate(
        config.stages[index].span, kv.blocks, kv.block_tokens, share.num_key_value_heads, share.head_dim, like
    )
    return Stage(link(part, config.kernels), pools, kv.block_tokens, loader.device)


class Loader:
    """Builds modules without memory, then fills them with this rank's slices of the checkpoint."""

    def __init__(self, checkpoint: Checkpoint, team: Team, dtype: torch.dtype, device: torch.device) -> None:
        self.checkpoint, self.team, self.dtype, self.device = checkpoint, team, dtype, device
        self.share: PretrainedConfig = local_config(checkpoint.config, team.size)
        self.share._attn_implementation = ATTENTION

    def part(self, layers: range, *, first: bool, last: bool) -> Part:
        rotary = self.checkpoint.module("RotaryEmbedding")(config=self.share).to(self.device)
        part = Part({index: self._layer(index) for index in layers}, rotary)
        if first:
            part.embedding = VocabularyEmbedding(self._vocabulary("model.embed_tokens.weight"), self._rows, self.team)
        if last:
            part.norm = self._norm()
            part.head = VocabularyHead(self._head(part.embedding), self.checkpoint.config.vocab_size, self.team)
        return part.eval()

    def _layer(self, index: int) -> nn.Module:
        with torch.device("meta"):
            layer = self.checkpoint.module("DecoderLayer")(self.share, index)
        names = list(layer.state_dict())
        self._fill(layer, f"model.layers.{index}.", {n: share_of(n, self.checkpoint.config, self.team) for n in names})
        if self.team.size > 1:
            layer.self_attn.o_proj = RowParallel(layer.self_attn.o_proj, self.team)
            layer.mlp.down_proj = RowParallel(layer.mlp.down_proj, self.team)
        return layer  # type: ignore[no-any-return]

    def _norm(self) -> nn.Module:
        config = self.checkpoint.config
        with torch.device("meta"):
            norm = self.checkpoint.module("RMSNorm")(config.hidden_size, eps=config.rms_norm_eps)
        self._fill(norm, "model.norm.", {"weight": None})
        return norm  # type: ignore[no-any-return]

    def _head(self, embedding: VocabularyEmbedding | None) -> Tensor:
        """The head's rows; with tied weights those of the embedding, shared where this rank has both."""
        if not self.checkpoint.config.tie_word_embeddings:
            return self._vocabulary("lm_head.weight")
        return embedding.weight if embedding else self._vocabulary("model.embed_tokens.weight")

    @property
    def _rows(self) -> Slice:
        return vocabulary_share(self.checkpoint.config.vocab_size, self.team)

    def _vocabulary(self, name: str) -> Tensor:
        return self.checkpoint.load(name, self._rows, self.dtype).to(self.device)

    def _fill(self, module: nn.Module, prefix: str, parts: dict[str, Slice | None]) -> None:
        wanted: dict[str, Any] = dict(module.state_dict())
        for name, part in parts.items():
            tensor = self.checkpoint.load(prefix + name, part, self.dtype).to(self.device)
            if tensor.shape != wanted[name].shape:
                shapes = f"{list(tensor.shape)}, not {list(wanted[name].shape)}"
                raise RuntimeFault(f"{self.checkpoint.folder}: tensor `{prefix + name}` has shape {shapes}")
            wanted[name] = tensor
        module.load_state_dict(wanted, assign=True)
        module.requires_grad_(False)
