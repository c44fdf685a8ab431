"""Tiny deterministic checkpoints, to try an engine without a download: `python -m hexdsl.runtime.tiny DIR`.

The weights are random (seeded): the text means nothing, but every part of the engine works on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

Kind = Literal["llama", "qwen3"]

CORPUS = "A tiny model says a few words about the layers it holds, one after another, and then it stops."
CHAT_TEMPLATE = (
    "{% for message in messages %}<s>{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


def make(folder: Path, kind: Kind = "llama", *, layers: int = 4, kv_heads: int = 2, seed: int = 0) -> Path:
    """Writes a checkpoint (0.7 M parameters, 4 heads) with a byte-level tokenizer; returns `folder`."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    model = _model(kind, layers, kv_heads, len(tokenizer))
    for parameter in model.parameters():
        # Larger than the usual 0.02, so that the likeliest token is well ahead and the text does not repeat itself.
        torch.nn.init.normal_(parameter, std=0.1 if parameter.dim() > 1 else 0.0, mean=float(parameter.dim() == 1))
    _hush(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _hush(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Makes the bytes that are not ASCII letters or spaces unlikely, so that answers can be read."""
    odd = [i for token, i in tokenizer.get_vocab().items() if not token.replace("\u0120", "").isascii() or i < 3]
    with torch.no_grad():
        model.get_output_embeddings().weight[odd] *= 0.1  # type: ignore[no-untyped-call]


def _model(kind: Kind, layers: int, kv_heads: int, vocab: int) -> PreTrainedModel:
    shape: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": kind == "llama",
    }
    return LlamaForCausalLM(LlamaConfig(**shape)) if kind == "llama" else Qwen3ForCausalLM(Qwen3Config(**shape))


def _tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator([CORPUS], trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=CHAT_TEMPLATE,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hexdsl.runtime.tiny", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("llama", "qwen3"), default="llama")
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args(argv)
    print(make(options.folder, options.kind, layers=options.layers))


if __name__ == "__main__":
    main()
