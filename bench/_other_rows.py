"""Held-out rows of other engines: Splitwise's A100 medians, and tensor parallelism over unlike cards and links."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from _catalog import arch, device
from _scores import NO_RANGE, Range, Score, score

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu, Link
from hexdsl.costs.predict import predict_tpot
from hexdsl.costs.serving import Load, Pipeline, Stage, pipeline

BLOOM_176B = Arch(70, 14336, 112, 112, 128, 57344, 250880, tied=True, ffn_matrices=2)

HYBRID_27B = Arch(64, 5120, 24, 4, 256, 17408, 248320)
"""Qwen3.6-27B as if all its layers had full attention, which a quarter have: good for ratios only."""

HYBRID_FORMATS = Formats("int4", "bf16", "fp8")
DRAFTED = 4
"""Tokens that a step of speculative decoding checks: one and three drafted."""

LANES: Mapping[str, Link] = {
    "PCIe no P2P": Link(32e9),
    "PCIe x8 both, no P2P": Link(16e9),
    "NVLink NV4": Link(56.25e9),
    "PCIe3 x16 P2P + custom AR": Link(16e9),
    "PCIe3 x16 P2P, custom AR gated off": Link(16e9),
    "x4/x4/x8/x8": Link(8e9),
}
"""Links of the rows, one way; the slowest lane counts."""

PAIRS = (
    ("5090+3090ti_pcie_x8", "2x3090_pcie_230W"),
    ("2x3090_nvlink_v0.24", "2x3090_pcie_230W"),
    ("4x3090_x16_tp4_220W", "4x3090_x16_tp2_220W"),
    ("4x3090_mixed_lanes", "4x3090_x16_tp4_220W"),
)
"""Rows whose speeds can be compared: two rigs that differ in one thing, or nearly."""


def splitwise(paths: Iterable[Path]) -> tuple[list[Score], int]:
    """Token and prompt phases of a 2023 engine whose host sets a floor of about 0.55 ms a layer."""
    rows = [row for path in paths for row in csv.DictReader(path.open(encoding="utf-8"))]
    known = [(row, line) for row in rows if (line := _line_of(row))]
    found = []
    for name in sorted({_name(row) for row, _ in known}):
        group = [(row, line) for row, line in known if _name(row) == name]
        tokens = [float(row["token_ms_median"]) for row, _ in group]
        prompts = [float(row["prompt_ms_median"]) for row, _ in group]
        found.append(score(name, "token", tokens, [_token_ms(*pair) for pair in group]))
        found.append(score(name, "prompt", prompts, [(_prompt_ms(*pair), *NO_RANGE) for pair in group]))
    return found, len(rows) - len(known)


def _name(row: Mapping[str, str]) -> str:
    return f"{row['model']} {row['gpu']} tp{row['tp']}"


def _line_of(row: Mapping[str, str]) -> Pipeline | None:
    model = BLOOM_176B if row["model"] == "bloom-176b" else arch(row["model"])
    at = device(row["gpu"].removesuffix("-80gb"))
    if model is None or at is None:
        return None
    gpu, link = at
    return pipeline([Stage((gpu,) * int(row["tp"]), model.layers, link)], [], model, Formats("fp16", "fp16", "fp16"))


def _token_ms(row: Mapping[str, str], line: Pipeline) -> Range:
    load = Load(float(row["prompt"]), float(row["out_tokens"]))
    found = predict_tpot(line, float(row["batch"]), load, prefill=False)
    return found.value * 1e3, found.low * 1e3, found.high * 1e3


def _prompt_ms(row: Mapping[str, str], line: Pipeline) -> float:
    prompt, batch = float(row["prompt"]), float(row["batch"])
    return 1e3 * float(line.first_token(prompt) + (batch - 1) * line.prompt_gap(prompt))


def mixed_tp(paths: Iterable[Path]) -> tuple[list[Score], int]:
    """Ratios of decode and prompt speeds of two rigs, and how many rows stand in no pair."""
    rows = {row["id"]: row for path in paths for row in json.loads(path.read_text("utf-8"))["rows"]}
    pairs = [(rows[a], rows[b]) for a, b in PAIRS if a in rows and b in rows]
    found = [s for a, b in pairs for s in _ratios(a, b)]
    return found, len(rows) - len({row["id"] for pair in pairs for row in pair})


def _ratios(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterable[Score]:
    name = f"{a['id']} over {b['id']}"
    decode = [x / y for x, y in zip(a["decode_tps"], b["decode_tps"], strict=True)]
    yield score(name, "decode", decode, [(_step(b) / _step(a), *NO_RANGE)] * len(decode))
    both = sorted(set(a.get("prefill_tps", ())) & set(b.get("prefill_tps", ())))
    if both:
        measured = [a["prefill_tps"][n] / b["prefill_tps"][n] for n in both]
        yield score(name, "prefill", measured, [(_prompt(b, n) / _prompt(a, n), *NO_RANGE) for n in both])


def _rig(row: Mapping[str, Any]) -> Pipeline:
    gpus = tuple(_card(name) for name in row["gpus"])
    return pipeline([Stage(gpus, HYBRID_27B.layers, LANES[row["link"]])], [], HYBRID_27B, HYBRID_FORMATS)


def _card(name: str) -> Gpu:
    found = device(name.replace("rtx", "rtx_").replace("ti", "_ti"))
    if found is None:
        raise SystemExit(f"{name}: not in the catalog")
    return found[0]


def _step(row: Mapping[str, Any]) -> float:
    return float(_rig(row).tpot(DRAFTED, Load(1000, 1000), prefill=False))


def _prompt(row: Mapping[str, Any], length: str) -> float:
    return float(_rig(row).prompt_gap(1000.0 * float(length.removesuffix("k"))))
