"""A Hugging Face checkpoint folder: its architecture, and reading only the slices of tensors that a rank needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from hexdsl.runtime.config import RuntimeFault

ARCHITECTURES = {
    "LlamaForCausalLM": "Llama",
    "MistralForCausalLM": "Mistral",
    "Qwen2ForCausalLM": "Qwen2",
    "Qwen3ForCausalLM": "Qwen3",
}
"""Architecture to the prefix of transformers' class names; the module is the prefix in lower case."""

ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary types whose angles do not depend on the length of the batch."""


@dataclass(frozen=True)
class Slice:
    """Rows or columns `[start, end)` of a tensor along `dim`."""

    dim: int
    start: int
    end: int


@dataclass(frozen=True)
class Checkpoint:
    """A folder with `config.json` and safetensors, one file or several with an index."""

    folder: Path
    config: PretrainedConfig
    architecture: str

    def module(self, suffix: str) -> Any:
        """A class of this architecture in transformers: `DecoderLayer`, `RMSNorm`, `RotaryEmbedding`."""
        prefix = ARCHITECTURES[self.architecture]
        name = f"transformers.models.{prefix.lower()}.modeling_{prefix.lower()}"
        return getattr(import_module(name), prefix + suffix)

    def load(self, name: str, part: Slice | None, dtype: torch.dtype) -> Tensor:
        """One tensor, or a part of it.  Raises `RuntimeFault` where the checkpoint lacks it."""
        if name not in self._files:
            raise RuntimeFault(f"{self.folder}: the checkpoint has no tensor `{name}`")
        try:
            with safe_open(self._files[name], framework="pt") as file:
                stored = file.get_slice(name)
                return _cut(stored, part).to(dtype).contiguous()
        except (SafetensorError, OSError) as error:
            raise RuntimeFault(f"{self._files[name]}: {error}") from None

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer, from `generation_config.json`, else from `config.json`."""
        path = self.folder / "generation_config.json"
        stated = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
        ends = self.config.eos_token_id if stated is None else stated
        return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        """Tensor name to file."""
        index = self.folder / "model.safetensors.index.json"
        if index.exists():
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return {name: self.folder / Path(file).name for name, file in names.items()}
        single = self.folder / "model.safetensors"
        if not single.exists():
            raise RuntimeFault(f"{self.folder}: no model.safetensors and no model.safetensors.index.json")
        with safe_open(single, framework="pt") as file:
            return dict.fromkeys(file.keys(), single)


def _cut(stored: Any, part: Slice | None) -> Tensor:
    if part is None:
        return stored[:]  # type: ignore[no-any-return]
    if part.dim == 0:
        return stored[part.start : part.end]  # type: ignore[no-any-return]
    return stored[:, part.start : part.end]  # type: ignore[no-any-return]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Reads `config.json`.  Raises `RuntimeFault` for one that cannot be read or served."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise RuntimeFault(f"{folder}: config.json cannot be read: {str(error).splitlines()[0]}") from None
    names = config.architectures or ["none named"]
    if names[0] not in ARCHITECTURES:
        raise RuntimeFault(f"{folder}: {names[0]} is not served; those that are: {', '.join(ARCHITECTURES)}")
    if getattr(config, "quantization_config", None):
        raise RuntimeFault(f"{folder}: quantised checkpoints are not served")
    _check_rope(folder, config)
    return Checkpoint(folder, config, names[0])


def _check_rope(folder: Path, config: PretrainedConfig) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind not in ROPE:
        raise RuntimeFault(f"{folder}: rotary embedding `{kind}` is not served; those that are: {', '.join(ROPE)}")
