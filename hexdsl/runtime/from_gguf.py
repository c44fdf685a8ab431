"""A GGUF Llama to a Hugging Face checkpoint, dequantised to bfloat16, with its tokenizer; needs the extra `demo`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from gguf import GGUFReader, ReaderTensor, dequantize
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM

TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(weights: Path, target: Path) -> Path:
    """Writes `config.json`, safetensors and the tokenizer with its chat template to `target`."""
    config = AutoConfig.from_pretrained(weights.parent, gguf_file=weights.name)
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    fields = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**fields))
    tensors = dict(_tensors(weights, config.num_attention_heads, config.num_key_value_heads))
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors, assign=True)
    model.tie_weights()
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def _tensors(weights: Path, heads: int, kv_heads: int) -> Iterator[tuple[str, Tensor]]:
    for stored in GGUFReader(weights).tensors:
        name = _name(stored.name)
        tensor = _dequantised(stored)
        if name.endswith("q_proj.weight"):
            tensor = _halves(tensor, heads)
        if name.endswith("k_proj.weight"):
            tensor = _halves(tensor, kv_heads)
        yield name, tensor.to(torch.bfloat16)


def _dequantised(stored: ReaderTensor) -> Tensor:
    return torch.from_numpy(dequantize(stored.data, stored.tensor_type).copy())


def _name(name: str) -> str:
    """`blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`."""
    match name.split("."):
        case ["blk", layer, part, kind]:
            return f"model.layers.{layer}.{LAYER[part]}.{kind}"
        case [part, kind]:
            return f"{TOP[part]}.{kind}"
    raise ValueError(f"GGUF tensor `{name}` is not part of a Llama")


def _halves(rows: Tensor, heads: int) -> Tensor:
    """GGUF rotates neighbouring rows of a head, Hugging Face the two halves of it: undo the interleaving."""
    width = rows.shape[1]
    return rows.view(heads, -1, 2, width).transpose(1, 2).reshape(-1, width)
