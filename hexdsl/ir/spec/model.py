"""`model`: an architecture and the number formats in which it runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Count, Share, Tokens, Whole
from hexdsl.ir.values import choice

FormatWord = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4", "fp4"]


class Format(Ir):
    """A number format; `int4(group = 128)` shares one scale among 128 values."""

    kind: FormatWord
    group: Count | None = Field(None, description="values that share one scale; left out: one scale a row")


NumberFormat = Annotated[Format, choice(Format)]


class Dense(Ir):
    """Every token attends to all earlier tokens."""

    kind: Literal["dense"] = "dense"


class Sparse(Ir):
    """Native sparse attention: compressed, selected and sliding-window branches."""

    kind: Literal["sparse"] = "sparse"
    block: Count = Field(64, description="tokens in a selected block")
    top: Count = Field(16, description="blocks selected per query")
    window: Count = Field(512, description="tokens of the sliding window")
    kernel: Literal["auto", "nsa", "fsa"] = Field("auto", description="query-major or KV-major kernel")


Attention = Annotated[Dense | Sparse, Field(discriminator="kind"), choice(Dense, Sparse)]


class Model(Ir):
    """An architecture (Llama-style, GQA, MLA, mixture of experts) and its number formats.

    Either `config` names a Hugging Face `config.json`, or the fields are written here; both may be combined.
    """

    KIND: ClassVar[str] = "model"

    name: str
    config: str | None = Field(None, description="a Hugging Face config.json that gives the architecture")
    path: str | None = Field(None, description="folder of the weights (Hugging Face layout, safetensors)")
    family: str | None = Field(None, description="Hugging Face architecture, such as LlamaForCausalLM")
    layers: Count = Field(description="transformer layers")
    hidden: Count = Field(description="width of the residual stream")
    heads: Count = Field(description="query heads")
    kv_heads: Count | None = Field(None, description="key and value heads; left out: as many as `heads`")
    head_dim: Count | None = Field(
        None, description="width of a query head, rotary part included; left out: `hidden / heads`"
    )
    ffn: Count = Field(description="inner width of the feed-forward layer")
    vocab: Count = Field(description="size of the vocabulary")
    tied: bool = Field(False, description="input and output embeddings share their weights")
    context: Tokens | None = Field(None, gt=0, description="longest sequence that the model was made for")
    experts: Count | None = Field(None, description="routed experts per layer (mixture of experts)")
    experts_per_token: Count | None = Field(None, description="routed experts used per token")
    shared_experts: Whole = Field(0, description="experts that every token uses")
    expert_ffn: Count | None = Field(None, description="inner width of one expert; left out: `ffn`")
    dense_layers: Whole = Field(0, description="first layers that are dense in a mixture of experts")
    kv_lora_rank: Count | None = Field(None, description="width of the compressed KV (multi-head latent attention)")
    q_lora_rank: Count | None = Field(None, description="width of the compressed query (multi-head latent attention)")
    rope_head_dim: Count | None = Field(None, description="width of the rotary part of a head (latent attention)")
    v_head_dim: Count | None = Field(None, description="width of a value head (latent attention)")
    weights: NumberFormat = Field(Format.model_construct(kind="bf16"), description="format of the weights")
    activations: NumberFormat | None = Field(None, description="format of the activations; left out: by the weights")
    kv: NumberFormat | None = Field(None, description="format of the KV cache; left out: that of the activations")
    attention: Attention = Field(Dense.model_construct(), description="kind of attention")
    quality: Share | None = Field(None, le=1, description="share of answers that are right, where a cascade needs it")
    source: str | None = Field(None, description="where the figures come from")
