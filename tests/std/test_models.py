"""The shipped architectures: their parameters, counted here from the shapes, come to the published totals."""

from __future__ import annotations

from pathlib import Path

import pytest

import hexdsl.std
from hexdsl.ir.spec.model import Model
from hexdsl.lang.resolve import load_file

CATALOG = Path(hexdsl.std.__file__).with_name("models.hex")

TOTAL = {
    "llama1b": 1_235_814_400,
    "llama3b": 3_212_749_824,
    "llama8b": 8_030_261_248,
    "llama70b": 70_553_706_496,
    "llama405b": 405_853_388_800,
    "llama2_7b": 6_738_415_616,
    "llama2_13b": 13_015_864_320,
    "llama2_70b": 68_976_648_192,
    "qwen0_5b": 494_032_768,
    "qwen1_5b": 1_543_714_304,
    "qwen3b": 3_085_938_688,
    "qwen7b": 7_615_616_512,
    "qwen14b": 14_770_033_664,
    "qwen32b": 32_763_876_352,
    "qwen72b": 72_706_203_648,
    "qwen3_8b": 8_190_735_360,
    "qwen3_14b": 14_768_307_200,
    "qwen3_32b": 32_762_123_264,
    "qwen3_30b_a3b": 30_532_122_624,
    "qwen3_235b_a22b": 235_093_634_560,
    "mistral7b": 7_248_023_552,
    "mixtral8x7b": 46_702_792_704,
    "deepseek_v2_lite": 15_706_484_224,
    "deepseek_v3": 671e9,
    "phi4": 14_659_507_200,
    "gemma2_9b": 9_241_705_984,
    "smollm2_135m": 134_515_008,
    "smollm2_360m": 361_821_120,
    "smollm2_1_7b": 1_711_376_384,
}
"""Parameters as the weight files or the model cards give them."""

ACTIVE = {
    "qwen3_30b_a3b": 3.3e9,
    "qwen3_235b_a22b": 22e9,
    "mixtral8x7b": 12.9e9,
    "deepseek_v2_lite": 2.4e9,
    "deepseek_v3": 37e9,
}
"""Parameters used per token, from the model cards; DeepSeek's leave out the input embedding."""


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {model.name: model for model in load_file(CATALOG).spec.models}


def attention(m: Model) -> int:
    head_dim = m.head_dim or m.hidden // m.heads
    if m.kv_lora_rank is None:
        return m.hidden * head_dim * 2 * (m.heads + (m.kv_heads or m.heads))
    rotary, value = m.rope_head_dim or 0, m.v_head_dim or 0
    query = m.heads * head_dim
    down_and_up = m.q_lora_rank * (m.hidden + query) if m.q_lora_rank else m.hidden * query
    keys_and_values = m.heads * (head_dim - rotary + value)
    compressed = m.hidden * (m.kv_lora_rank + rotary) + m.kv_lora_rank * keys_and_values
    return down_and_up + compressed + m.heads * value * m.hidden


def parameters(m: Model, experts: int) -> int:
    """All weights but norms and biases, with so many routed experts a layer."""
    dense = m.dense_layers if m.experts else m.layers
    wide = 3 * m.hidden * m.ffn
    mixture = 3 * m.hidden * (m.expert_ffn or 0) * (experts + m.shared_experts) + m.hidden * (m.experts or 0)
    embeddings = m.vocab * m.hidden * (1 if m.tied else 2)
    return embeddings + m.layers * attention(m) + dense * wide + (m.layers - dense) * mixture


def test_each_has_a_published_total(models: dict[str, Model]) -> None:
    assert len(models) >= 15
    assert models.keys() == TOTAL.keys()


@pytest.mark.parametrize("name", TOTAL)
def test_parameters(models: dict[str, Model], name: str) -> None:
    model = models[name]
    assert parameters(model, model.experts or 0) == pytest.approx(TOTAL[name], rel=1e-3)


@pytest.mark.parametrize("name", ACTIVE)
def test_parameters_per_token(models: dict[str, Model], name: str) -> None:
    model = models[name]
    used = parameters(model, model.experts_per_token or 0)
    if model.kv_lora_rank:
        used -= model.vocab * model.hidden
    assert used == pytest.approx(ACTIVE[name], rel=0.03)


def test_each_says_what_it_is(models: dict[str, Model]) -> None:
    for model in models.values():
        assert model.family, model.name
        assert model.family.endswith("ForCausalLM"), model.name
        assert model.context, model.name
        assert model.context >= 4096, model.name
        assert "/" in (model.source or ""), model.name
        assert "tied" in model.model_fields_set, model.name
