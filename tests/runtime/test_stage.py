"""One rank in this process: architectures, sharded files, chunked prompts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runtime_harness import Reference, engine_config
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from hexdsl.runtime.checkpoint import open_checkpoint
from hexdsl.runtime.config import EngineConfig, RuntimeFault
from hexdsl.runtime.link import link
from hexdsl.runtime.model import build
from hexdsl.runtime.parallel import Team, local_config, share_of, vocabulary_share
from hexdsl.runtime.sampling import choose
from hexdsl.runtime.step import Chunk, Draw, Step

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}


def greedy(folder: Path, prompt: str, count: int, chunk: int) -> str:
    """Runs the prompt in chunks, then token by token, over scattered blocks."""
    config = EngineConfig.model_validate(engine_config(folder, [(0, 3, 1)], max_context=128))
    stage = build(config, open_checkpoint(folder), 0, Team())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens, done, blocks = tokenizer(prompt).input_ids, 0, (7, 3, 60, 11, 2, 19, 5, 33)
    start = len(tokens)
    while len(tokens) < start + count and tokens[-1] != 2:
        part = tuple(tokens[done : done + chunk])
        draw = Draw(0, 1, 0, 0) if done + len(part) == len(tokens) else None
        step = Step("run", (Chunk(part, done, blocks, draw),))
        hidden = stage.hidden(step, None)
        done += len(part)
        tokens += choose(stage.logits(step, hidden), step.draws) if draw else []
    return str(tokenizer.decode(tokens[start:], skip_special_tokens=True))


def save(model: PreTrainedModel, like: Path, folder: Path) -> Path:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder, max_shard_size="40KB")
    AutoTokenizer.from_pretrained(like).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chunk", [100, 7])
def test_mistral_looks_back_only_as_far_as_its_window(
    chunk: int, llama: Path, tmp_path: Path, reference: Reference
) -> None:
    torch.manual_seed(1)
    vocab = len(AutoTokenizer.from_pretrained(llama))
    model = MistralForCausalLM(MistralConfig(**SHAPE, vocab_size=vocab, sliding_window=8, head_dim=16))
    folder = save(model, llama, tmp_path)
    prompt = "a few words about the layers, and then one more"
    assert greedy(folder, prompt, 30, chunk) == reference(folder, prompt, 30)


def test_qwen2_with_biases_from_several_files(llama: Path, tmp_path: Path, reference: Reference) -> None:
    torch.manual_seed(2)
    vocab = len(AutoTokenizer.from_pretrained(llama))
    folder = save(Qwen2ForCausalLM(Qwen2Config(**SHAPE, vocab_size=vocab)), llama, tmp_path)
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert greedy(folder, "one after another", 30, 100) == reference(folder, "one after another", 30)


@pytest.mark.parametrize(
    ("layers", "change", "words"),
    [
        (3, {}, "has 4 layers, the stages cover 3"),
        (4, {"max_context": 5000}, "the model has 2048 positions"),
        (4, {"kernels": ["paged_decode"]}, "unknown kernel `paged_decode`"),
    ],
)
def test_a_config_that_does_not_fit_the_checkpoint(
    layers: int, change: dict[str, Any], words: str, llama: Path
) -> None:
    config = EngineConfig.model_validate(engine_config(llama, [(0, layers, 1)], **change))
    with pytest.raises(RuntimeFault, match=words):
        build(config, open_checkpoint(llama), 0, Team())


def test_a_linked_kernel_changes_the_model() -> None:
    model = torch.nn.Sequential(torch.nn.ReLU())
    link(model, ["gelu"], {"gelu": lambda m: m.__setitem__(0, torch.nn.GELU())})
    assert isinstance(model[0], torch.nn.GELU)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json", "cannot be read"),
        (json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}), "GPT2LMHeadModel is not served"),
        (json.dumps({**LLAMA, "rope_parameters": DYNAMIC}), "rotary embedding `dynamic` is not served"),
        (json.dumps({**LLAMA, "quantization_config": {"quant_method": "gptq"}}), "quantised checkpoints"),
    ],
)
def test_a_folder_that_cannot_be_served(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RuntimeFault, match=words):
        open_checkpoint(tmp_path)


def test_tp_must_divide_the_heads() -> None:
    with pytest.raises(RuntimeFault, match="TP 3 does not divide 4 heads"):
        local_config(LlamaConfig(**SHAPE), 3)


@pytest.mark.parametrize("tp", [2, 4])
def test_shares_cover_every_row_once_or_repeat_kv_heads(tp: int) -> None:
    config = LlamaConfig(**SHAPE)
    queries = [share_of("self_attn.q_proj.weight", config, Team(i, tp)) for i in range(tp)]
    keys = [share_of("self_attn.k_proj.weight", config, Team(i, tp)) for i in range(tp)]
    assert [row for part in queries if part for row in range(part.start, part.end)] == list(range(64))
    held = [row for part in keys if part for row in range(part.start, part.end)]
    assert sorted(held) == sorted(list(range(32)) * max(1, tp // 2))
    rows = [vocabulary_share(101, Team(i, tp)) for i in range(tp)]
    assert [row for part in rows for row in range(part.start, part.end)] == list(range(101))
