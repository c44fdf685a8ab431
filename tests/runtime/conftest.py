"""Tiny checkpoints, made once, and what transformers itself says with them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from runtime_harness import Reference


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hexdsl.runtime.tiny import make

    return make(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def one_kv_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hexdsl.runtime.tiny import make

    return make(tmp_path_factory.mktemp("narrow"), "llama", kv_heads=1)


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hexdsl.runtime.tiny import make

    return make(tmp_path_factory.mktemp("qwen3"), "qwen3")


@pytest.fixture(scope="session")
def reference() -> Reference:
    """The greedy answer of transformers' `generate` in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)

    @cache
    def load(folder: Path) -> tuple[Any, Any]:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(folder)

    @cache
    def generate(folder: Path, prompt: str, max_tokens: int) -> str:
        model, tokenizer = load(folder)
        asked = tokenizer(prompt, return_tensors="pt")
        told = model.generate(
            input_ids=asked.input_ids, attention_mask=asked.attention_mask, max_new_tokens=max_tokens, do_sample=False
        )
        return str(tokenizer.decode(told[0, asked.input_ids.shape[1] :], skip_special_tokens=True))

    return generate
