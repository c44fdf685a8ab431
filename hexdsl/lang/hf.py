"""A model's fields from its Hugging Face `config.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from hexdsl.ir.spec.model import Format, FormatWord

Config = Mapping[str, object]
Fields = dict[str, object]

LARGEST = 10**9
"""No dimension of a decoder comes near this; more is a broken file."""


def read_config(text: str) -> Fields:
    """The fields of `Model` that a `config.json` gives; what it does not say is left out.

    Dense decoders, mixtures of experts and multi-head latent attention (`head_dim` is then the whole query head,
    rotary part included); a `text_config` inside the file is read in its place.
    Raises ValueError with one sentence where the text is not the configuration of such a model.
    """
    said = _flat(_parse(text))
    family = _family(said)
    config = {**family.defaults, **said}
    return {
        "family": family.architecture,
        **_shape(config, family),
        **family.extra(config),
        **_weights(config),
    }


def _parse(text: str) -> dict[str, object]:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg} in line {error.lineno}") from None
    except (ValueError, RecursionError):
        raise ValueError("this is not usable JSON: its numbers are too long or its nesting is too deep") from None
    if not isinstance(config, dict):
        raise ValueError("this is JSON, but not an object with the fields of a model")
    return config


def _flat(config: dict[str, object]) -> Config:
    """The fields of the language model; those of an outer, multi-modal model stand in where it is silent."""
    inner = config.get("text_config")
    return _said(config) | (_said(inner) if isinstance(inner, dict) else {})


def _said(config: Config) -> dict[str, object]:
    """The fields without those that are null, which mean the same as their absence."""
    return {key: value for key, value in config.items() if value is not None}


# Dimensions.


def _shape(config: Config, family: Family) -> Fields:
    heads = _count(config, "num_attention_heads")
    fields: Fields = {
        "layers": _count(config, "num_hidden_layers"),
        "hidden": _count(config, "hidden_size"),
        "heads": heads,
        "kv_heads": _kv_heads(config, heads),
        "ffn": _count(config, "intermediate_size"),
        "vocab": _count(config, "vocab_size"),
        "tied": _flag(config, "tie_word_embeddings", family.tied),
    }
    if "kv_lora_rank" not in config:
        fields["head_dim"] = _head_dim(config, heads)
    if context := _maybe(config, "max_position_embeddings"):
        fields["context"] = context
    return fields


def _kv_heads(config: Config, heads: int) -> int:
    kv_heads = _maybe(config, "num_key_value_heads") or heads
    if heads % kv_heads:
        raise ValueError(f"`num_attention_heads` ({heads}) is not a multiple of `num_key_value_heads` ({kv_heads})")
    return kv_heads


def _head_dim(config: Config, heads: int) -> int:
    if known := _maybe(config, "head_dim"):
        return known
    hidden = _count(config, "hidden_size")
    if hidden % heads:
        raise ValueError(f"`hidden_size` ({hidden}) is not a multiple of `num_attention_heads` ({heads})")
    return hidden // heads


# Families.


def _nothing(config: Config) -> Fields:
    return {}


def _mixtral(config: Config) -> Fields:
    return _experts(config, width="intermediate_size")


def _qwen_moe(config: Config) -> Fields:
    """Qwen writes its shared expert as one wide expert: here it counts as so many of the routed ones' width."""
    _expect_one(config, "decoder_sparse_step")
    width = _count(config, "moe_intermediate_size")
    shared = _maybe(config, "shared_expert_intermediate_size", least=0) or 0
    if shared % width:
        raise ValueError(f"the shared expert's width ({shared}) is not a multiple of `moe_intermediate_size` ({width})")
    dense = _first_layers(config, "mlp_only_layers")
    return _experts(config, width="moe_intermediate_size", shared=shared // width, dense=dense)


def _deepseek(config: Config) -> Fields:
    return _latent(config) | (_deepseek_experts(config) if "n_routed_experts" in config else {})


def _latent(config: Config) -> Fields:
    rotary = _count(config, "qk_rope_head_dim")
    fields: Fields = {
        "head_dim": _count(config, "qk_nope_head_dim") + rotary,
        "rope_head_dim": rotary,
        "v_head_dim": _count(config, "v_head_dim"),
        "kv_lora_rank": _count(config, "kv_lora_rank"),
    }
    if rank := _maybe(config, "q_lora_rank"):
        fields["q_lora_rank"] = rank
    return fields


def _deepseek_experts(config: Config) -> Fields:
    _expect_one(config, "moe_layer_freq")
    shared = _maybe(config, "n_shared_experts", least=0) or 0
    dense = _maybe(config, "first_k_dense_replace", least=0) or 0
    return _experts(config, width="moe_intermediate_size", shared=shared, dense=dense)


def _experts(config: Config, width: str, shared: int = 0, dense: int = 0) -> Fields:
    experts = _count(config, "num_local_experts", "num_experts", "n_routed_experts")
    used = _count(config, "num_experts_per_tok")
    if used > experts:
        raise ValueError(f"a token uses {used} experts, but there are {experts}")
    if dense >= _count(config, "num_hidden_layers"):
        raise ValueError("a mixture of experts is described in which every layer is dense")
    return {
        "experts": experts,
        "experts_per_token": used,
        "shared_experts": shared,
        "expert_ffn": _count(config, width),
        "dense_layers": dense,
    }


@dataclass(frozen=True)
class Family:
    """What a `model_type` means where its `config.json` is silent: defaults of transformers' configuration classes."""

    architecture: str
    tied: bool = False
    extra: Callable[[Config], Fields] = _nothing
    defaults: Config = field(default_factory=dict)


GEMMA3 = {"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}

FAMILIES: Mapping[str, Family] = {
    "deepseek_v2": Family("DeepseekV2ForCausalLM", extra=_deepseek),
    "deepseek_v3": Family("DeepseekV3ForCausalLM", extra=_deepseek),
    "gemma": Family("GemmaForCausalLM", tied=True, defaults={"head_dim": 256}),
    "gemma2": Family("Gemma2ForCausalLM", tied=True, defaults={"head_dim": 256}),
    "gemma3_text": Family("Gemma3ForCausalLM", tied=True, defaults=GEMMA3),
    "granite": Family("GraniteForCausalLM"),
    "kimi_k2": Family("DeepseekV3ForCausalLM", extra=_deepseek),
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM", defaults={"num_key_value_heads": 8}),
    "mixtral": Family("MixtralForCausalLM", extra=_mixtral, defaults={"num_key_value_heads": 8}),
    "olmo2": Family("Olmo2ForCausalLM"),
    "phi3": Family("Phi3ForCausalLM"),
    "qwen2": Family("Qwen2ForCausalLM"),
    "qwen2_moe": Family("Qwen2MoeForCausalLM", extra=_qwen_moe),
    "qwen3": Family("Qwen3ForCausalLM", defaults={"head_dim": 128}),
    "qwen3_moe": Family("Qwen3MoeForCausalLM", extra=_qwen_moe),
    "smollm3": Family("SmolLM3ForCausalLM", tied=True),
}


def _family(config: Config) -> Family:
    kind = config.get("model_type")
    if kind is None:
        raise ValueError("there is no `model_type`")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"the model type {_shown(kind)} is not a decoder that hexc knows ({', '.join(FAMILIES)})")
    return FAMILIES[kind]


# Formats.

DTYPES: Mapping[str, FormatWord] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "float8_e4m3fn": "fp8",
}


def _weights(config: Config) -> Fields:
    """`weights`, unless the file says nothing of it."""
    if "quantization_config" in config:
        return {"weights": _quantised(_section(config, "quantization_config"))}
    dtype = config.get("dtype", config.get("torch_dtype", "auto"))
    if dtype == "auto":
        return {}
    kind = DTYPES.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else None
    if kind is None:
        raise ValueError(f"the dtype {_shown(dtype)} is not one that hexc knows")
    return {"weights": Format(kind=kind, group=None)}


def _quantised(config: Config) -> Format:
    method = config.get("quant_method")
    read = QUANTISERS.get(method) if isinstance(method, str) else None
    if read is None:
        known = ", ".join(QUANTISERS)
        raise ValueError(f"the quantisation method {_shown(method)} is not one that hexc knows ({known})")
    return read(config)


def _fp8(config: Config) -> Format:
    return Format(kind="fp8", group=None)


def _mxfp4(config: Config) -> Format:
    return Format(kind="fp4", group=32)


def _whole_bits(config: Config) -> Format:
    return _of_bits("int", _count(config, "bits"), config)


def _bitsandbytes(config: Config) -> Format:
    if _flag(config, "load_in_4bit", False):
        return Format(kind="int4", group=64)
    return Format(kind="int8", group=None)


def _compressed(config: Config) -> Format:
    groups = _section(config, "config_groups")
    first = _section(groups, min(groups, default="group_0"))
    weights = _section(first, "weights")
    prefix = "fp" if weights.get("type") == "float" else "int"
    return _of_bits(prefix, _count(weights, "num_bits"), weights)


def _of_bits(prefix: str, bits: int, config: Config) -> Format:
    kind = next((word for word in get_args(FormatWord) if word == f"{prefix}{bits}"), None)
    if kind is None:
        raise ValueError(f"weights of {bits} bits are not a format that hexc knows")
    by_row = config.get("group_size") == -1
    return Format(kind=kind, group=None if by_row else _maybe(config, "group_size"))


QUANTISERS: Mapping[str, Callable[[Config], Format]] = {
    "awq": _whole_bits,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
    "fbgemm_fp8": _fp8,
    "fp8": _fp8,
    "gptq": _whole_bits,
    "mxfp4": _mxfp4,
}


# One field.


def _count(config: Config, *keys: str) -> int:
    """The first of the keys that is there, as a whole number above zero."""
    found = _maybe(config, *keys)
    if found is None:
        raise ValueError(f"there is no `{keys[0]}`")
    return found


def _maybe(config: Config, *keys: str, least: int = 1) -> int | None:
    key = next((key for key in keys if config.get(key) is not None), None)
    if key is None:
        return None
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
        raise ValueError(f"`{key}` must be a whole number from {least} to a billion, not {_shown(value)}")
    return value


def _flag(config: Config, key: str, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"`{key}` must be true or false, not {_shown(value)}")
    return value


def _section(config: Config, key: str) -> Config:
    value = config.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"`{key}` must be an object")
    return _said(value)


def _expect_one(config: Config, key: str) -> None:
    if _maybe(config, key) not in (None, 1):
        raise ValueError(f"`{key}` is not 1: hexc knows only mixtures of experts whose dense layers come first")


def _first_layers(config: Config, key: str) -> int:
    layers = config.get(key, [])
    if not isinstance(layers, list) or layers != list(range(len(layers))):
        raise ValueError(f"`{key}` must list the first layers: hexc knows only mixtures whose dense layers come first")
    return len(layers)


def _shown(value: object) -> str:
    """A value in a message: short, on one line, and plain ASCII."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
