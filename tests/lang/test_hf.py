"""`config.json` files as their publishers wrote them give the shapes of the shipped catalog; all others a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hexdsl.std
from hexdsl.ir.spec.model import Format, Model
from hexdsl.lang.hf import FAMILIES, read_config
from hexdsl.lang.resolve import load_file

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 128256,
}
QWEN_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 152064,
}
SMOLLM_135M = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 49152,
}
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mixtral",
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}
QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "v_head_dim": 128,
    "vocab_size": 129280,
}
DEEPSEEK_V2_LITE = DEEPSEEK_V3 | {
    "model_type": "deepseek_v2",
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "num_key_value_heads": 16,
    "q_lora_rank": None,
    "quantization_config": None,
    "vocab_size": 102400,
}
GEMMA2_9B = {
    "architectures": ["Gemma2ForCausalLM"],
    "head_dim": 256,
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 16,
    "num_hidden_layers": 42,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "vocab_size": 256000,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "llama8b": LLAMA_8B,
    "qwen7b": QWEN_7B,
    "smollm2_135m": SMOLLM_135M,
    "mixtral8x7b": MIXTRAL,
    "qwen3_30b_a3b": QWEN3_30B_A3B,
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v2_lite": DEEPSEEK_V2_LITE,
    "gemma2_9b": GEMMA2_9B,
}
GEMMA3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
}


def read(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return read_config(json.dumps(config | changes))


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


@pytest.fixture(scope="module")
def catalog() -> dict[str, Model]:
    models = load_file(Path(hexdsl.std.__file__).with_name("models.hex")).spec.models
    return {model.name: model for model in models}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_the_catalogs_model(catalog: dict[str, Model], name: str) -> None:
    found = Model.model_validate({"name": name, **read(PUBLISHED[name])})
    assert found == catalog[name].with_(source=None)


def test_a_language_model_inside_a_larger_one() -> None:
    found = read(GEMMA3_4B)
    shape = [found[key] for key in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "tied")]
    assert shape == [34, 2560, 8, 4, 256, 262_208, True]
    assert found["weights"] == Format(kind="bf16", group=None)


@pytest.mark.parametrize(("kind", "tied"), [("llama", False), ("qwen2", False), ("mistral", False), ("gemma2", True)])
def test_tied_embeddings_where_the_file_is_silent(kind: str, tied: bool) -> None:
    assert read(without(LLAMA_8B, "tie_word_embeddings"), model_type=kind)["tied"] is tied


@pytest.mark.parametrize(("kind", "kv_heads"), [("llama", 32), ("mistral", 8)])
def test_kv_heads_where_the_file_is_silent(kind: str, kv_heads: int) -> None:
    assert read(without(LLAMA_8B, "num_key_value_heads"), model_type=kind)["kv_heads"] == kv_heads


def test_head_dim_is_not_always_the_share_of_the_width() -> None:
    assert read(LLAMA_8B)["head_dim"] == 128
    assert read(LLAMA_8B, head_dim=64)["head_dim"] == 64
    assert read(LLAMA_8B, model_type="qwen3", hidden_size=5120)["head_dim"] == 128


def test_qwens_wide_shared_expert_counts_as_several() -> None:
    """Qwen1.5-MoE-A2.7B: 60 experts of 1408 and a shared one of 5632."""
    found = read(
        QWEN3_30B_A3B,
        model_type="qwen2_moe",
        moe_intermediate_size=1408,
        shared_expert_intermediate_size=5632,
        mlp_only_layers=[0, 1],
    )
    assert (found["shared_experts"], found["expert_ffn"], found["dense_layers"]) == (4, 1408, 2)


@pytest.mark.parametrize(
    ("changes", "kind", "group"),
    [
        ({"torch_dtype": "float16"}, "fp16", None),
        ({"torch_dtype": None, "dtype": "float32"}, "fp32", None),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}, "int4", 128),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": -1}}, "int8", None),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "int4", 64),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "int8", None),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "fp4", 32),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
                }
            },
            "fp8",
            None,
        ),
    ],
)
def test_format_of_the_weights(changes: dict[str, Any], kind: str, group: int | None) -> None:
    found = read(LLAMA_8B, **changes)["weights"]
    assert (found.kind, found.group) == (kind, group)


def test_no_format_where_the_file_names_none() -> None:
    assert "weights" not in read(without(LLAMA_8B, "torch_dtype"))


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "model_type"])
def test_a_missing_field_is_named(key: str) -> None:
    with pytest.raises(ValueError, match=f"there is no `{key}`"):
        read(without(LLAMA_8B, key))


@pytest.mark.parametrize("value", [0, -1, "32", 3.5, True, [32], 10**12])
def test_an_absurd_value_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="`num_hidden_layers` must be a whole number"):
        read(LLAMA_8B, num_hidden_layers=value)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (LLAMA_8B, {"model_type": "bert"}, r'"bert" is not a decoder that hexc knows \(deepseek_v2, .*llama'),
        (LLAMA_8B, {"num_key_value_heads": 5}, "not a multiple"),
        (LLAMA_8B, {"hidden_size": 4095}, "not a multiple"),
        (LLAMA_8B, {"torch_dtype": "complex64"}, "complex64"),
        (LLAMA_8B, {"tie_word_embeddings": "yes"}, "true or false"),
        (LLAMA_8B, {"quantization_config": {"quant_method": "magic"}}, "magic"),
        (LLAMA_8B, {"quantization_config": {"quant_method": "gptq", "bits": 3}}, "3 bits"),
        (MIXTRAL, {"num_experts_per_tok": 9}, "9 experts"),
        (QWEN3_30B_A3B, {"decoder_sparse_step": 2}, "dense layers come first"),
        (QWEN3_30B_A3B, {"mlp_only_layers": [5]}, "dense layers come first"),
        (DEEPSEEK_V3, {"first_k_dense_replace": 61}, "every layer is dense"),
        (DEEPSEEK_V3, {"kv_lora_rank": None}, "kv_lora_rank"),
    ],
)
def test_what_cannot_be_planned_is_refused(config: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(config, **changes)


DEEP, LONG_NUMBER = "[" * 100_000, '{"a": ' + "9" * 5000 + "}"


@pytest.mark.parametrize(
    "text",
    ["", "{", "not json", "[1]", "null", '"x"', pytest.param(DEEP, id="deep"), pytest.param(LONG_NUMBER, id="long")],
)
def test_text_that_is_no_object(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        read_config(text)


# Fuzzing: a config either makes a valid model, or one sentence says why not.

KEYS = sorted({key for config in PUBLISHED.values() for key in config} | {"text_config", "dtype", "head_dim"})
QUANTISATION = ("quant_method", "bits", "group_size", "config_groups", "load_in_4bit", "weights", "num_bits", "type")
NAMES = [*KEYS, *QUANTISATION]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([*FAMILIES, "gptq", "fp8", "compressed-tensors", "float16"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)


def judge(text: str) -> None:
    try:
        fields = read_config(text)
    except ValueError as error:
        message = str(error)
        assert message
        assert message.isprintable()
        assert len(message) < 400
    else:
        Model.model_validate({"name": "m", **fields})


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text() | VALUES.map(json.dumps))
def test_any_text(text: str) -> None:
    judge(text)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.sampled_from([*PUBLISHED.values(), GEMMA3_4B]), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2))
def test_any_change_of_a_real_config(config: dict[str, Any], changes: dict[str, Any]) -> None:
    judge(json.dumps(config | changes))
