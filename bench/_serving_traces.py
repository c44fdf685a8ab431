"""The lengths of recorded requests: Azure's LLM inference traces of 2023 (conversation and code)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from _catalog import DATA

from hexdsl.ir.spec.workload import Empirical

FILES = {name: DATA / "traces" / f"azure_2023_{name}.csv" for name in ("conv", "code")}

LONGEST = 4096
"""Requests whose prompt and answer exceed what Llama-2 takes are left out."""


@dataclass(frozen=True)
class Lengths:
    """Prompts and answers as recorded, each by itself."""

    prompt: Empirical
    output: Empirical

    @staticmethod
    def of(pairs: Sequence[tuple[int, int]]) -> Lengths:
        prompts, outputs = zip(*pairs, strict=True)
        return Lengths(Empirical.of(prompts), Empirical.of(outputs))


@cache
def pairs_of(name: str) -> tuple[tuple[int, int], ...]:
    """Prompt and output tokens of the trace's requests; nothing where the file is not there."""
    if not FILES[name].exists():
        return ()
    with FILES[name].open(encoding="utf-8") as file:
        rows = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(file)]
    return tuple((p, d) for p, d in rows if p + d <= LONGEST and p > 0 and d > 0)


def classes_of(cut: Mapping[str, Any]) -> dict[str, Lengths]:
    """The conversation trace by heavy and light prompts and outputs, as `cut` says, and the whole of it as Online."""
    pairs, found = pairs_of("conv"), {}
    for name in cut["classes"] if pairs else ():
        most_p, most_d = cut["heavy_prefill_over_tokens"], cut["heavy_decode_over_tokens"]
        some = [x for x in pairs if (x[0] > most_p) == (name[0] == "H") and (x[1] > most_d) == (name[2] == "H")]
        found[name] = Lengths.of(some)
    return found | ({"Online": Lengths.of(pairs)} if pairs else {})
