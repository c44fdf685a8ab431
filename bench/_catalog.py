"""Models, GPUs and formats by the names that measured rows use: those of hexc's own catalog."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from hexdsl.commands.catalog import catalog_of
from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu, Link
from hexdsl.costs.network import PCIE
from hexdsl.ir.diagnostic import SpecError
from hexdsl.passes.serve.adapter import arch_of, gpu_of

DATA = Path(os.environ.get("HEXC_DATA", Path(__file__).parents[2] / "shared" / "data"))

QUANT: Mapping[str, tuple[str, str]] = {
    "": ("bf16", "bf16"),
    "bf16": ("bf16", "bf16"),
    "bfloat16": ("bf16", "bf16"),
    "fp16": ("fp16", "fp16"),
    "float16": ("fp16", "fp16"),
    "fp8": ("fp8", "fp8"),
    "fp8_static": ("fp8", "fp8"),
    "fp8_block": ("fp8", "fp8"),
    "int8": ("int8", "int8"),
    "int8_wo": ("int8", "bf16"),
    "int4": ("int4", "bf16"),
    "int4_wo": ("int4", "bf16"),
    "w4afp8": ("int4", "fp8"),
    "fp4": ("fp4", "fp4"),
    "nvfp4": ("fp4", "fp4"),
    "w4a16_mxfp4": ("fp4", "bf16"),
}
"""Weights and arithmetic by the words of a row's `gemm_quant` or `precision`."""


ALIKE = (
    (r"^.*/|^nvidia[ _-]|^meta-", ""),
    (r"-v0\.\d$|-(fp4|nvfp4|awq|gptq|w4a16|int4)$", ""),
    (r"-instruct$", ""),
    (r"llama-3\.3", "llama-3.1"),
    (r"deepseek-r1", "deepseek-v3"),
    (r"^b60$", "arc_b60"),
)
"""What to change in a name that the catalog lacks: makers, releases and formats, and models of one architecture."""


def _plain(name: str) -> str:
    plain = name.lower()
    for found, other in ALIKE:
        plain = re.sub(found, other, plain)
    return plain


@cache
def arch(name: str) -> Arch | None:
    """The architecture that a name means, None where hexc does not know it."""
    for tried in (name, _plain(name)):
        with suppress(SpecError):
            return arch_of(catalog_of(None).model(tried))
    return None


@cache
def device(name: str) -> tuple[Gpu, Link] | None:
    """The GPU that a name means, and the link inside its machine (PCIe where its datasheet has no other)."""
    for tried in (name, _plain(name)):
        with suppress(SpecError):
            found = catalog_of(None).gpu(tried)
            return gpu_of(found), Link(found.link / 2) if found.link else PCIE
    return None


def _archs(*names: str) -> dict[str, Arch]:
    return {name: found for name in names if (found := arch(name))}


def _devices(*names: str) -> dict[str, tuple[Gpu, Link]]:
    return {name: found for name in names if (found := device(name))}


MODELS = _archs("llama-3.1-8b", "llama-3.1-70b", "llama-2-70b", "qwen2.5-7b", "qwen3-8b", "qwen3-32b", "qwen3-30b-a3b")
GPUS = _devices("a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s", "rtx_4090", "rtx_pro_6000_server")


def known(words: str, table: Iterable[str]) -> str | None:
    """The longest name that stands in these words."""
    return next((name for name in sorted(table, key=len, reverse=True) if name in words.lower()), None)


def formats_of(row: Mapping[str, str], kv: str | None) -> Formats | None:
    """The row's formats; None where they are not known.

    TensorRT-LLM's fp8 checkpoints quantise the KV cache; all others are taken as 16-bit where nothing is recorded.
    """
    found = QUANT.get((row.get("gemm_quant") or row.get("precision") or "").lower())
    if found is None:
        return None
    quantised = row.get("precision") == "fp8" and row.get("backend") == "trtllm"
    return Formats(*found, kv or row.get("kv") or ("fp8" if quantised else "bf16"))
