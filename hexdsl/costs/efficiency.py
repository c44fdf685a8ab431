"""How much of its datasheet a GPU delivers: the shipped table, matched by name, or a careful fallback."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Provenance = Literal["given", "profiled", "measured", "modelled"]

TRUST: tuple[Provenance, ...] = ("given", "profiled", "measured", "modelled")
"""Best first."""


def weakest(*sources: Provenance) -> Provenance:
    """The provenance of a number that was made from several."""
    return max(sources, key=TRUST.index)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the peak.  `attention` is (prompt lengths, shares of the 16-bit peak); `gemm` goes by format."""

    kind: str
    memory: float
    kv: float
    gemm: Mapping[str, float] = field(hash=False)
    attention: tuple[tuple[float, ...], tuple[float, ...]]
    provenance: Provenance
    source: str

    def attention_at(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Share of the peak of causal prefill attention, linear in the logarithm of the prompt length."""
        lengths, shares = self.attention
        at = np.log(np.maximum(np.asarray(tokens, dtype=np.float64), 1.0))
        return np.asarray(np.interp(at, np.log(lengths), shares))

    def gemm_at(self, name: str) -> tuple[float, Provenance]:
        """Share of the peak of large products in a format; one that was not measured is scaled from bf16."""
        if name in self.gemm:
            return self.gemm[name], self.provenance
        base = next((f for f in ("bf16", "fp16") if f in self.gemm), None)
        guess: float = _table()["fallback"]["gemm"][name]
        if base is None or name in ("bf16", "fp16"):
            return self.gemm.get(base or "", guess), self.provenance if base else "modelled"
        return guess * self.gemm[base] / _table()["fallback"]["gemm"][base], "modelled"


@dataclass(frozen=True, slots=True)
class MeasuredReduce:
    """NCCL all-reduce measured within one machine: seconds of start-up and bus bytes/s, by number of GPUs."""

    fabric: Literal["nvlink", "pcie"]
    counts: tuple[int, ...]
    alpha_s: tuple[float, ...]
    bus: tuple[float, ...]


@cache
def _table() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("hexdsl.costs").joinpath("efficiency.json").read_text("utf-8"))
    return loaded


def kind_of(name: str) -> str | None:
    """The measured kind that a GPU's name means (`NVIDIA H100 80GB SXM5` is `h100`), or None."""
    words = re.sub(r"[ _\-]+", " ", name.lower())
    return next((k for k, entry in _table()["kinds"].items() if re.search(entry["match"], words)), None)


@cache
def efficiency_of(name: str) -> Efficiency:
    """The shipped shares for a GPU of this name; where there are none, cautious ones marked `modelled`."""
    kind, fallback = kind_of(name), _table()["fallback"]
    entry = {**fallback, **(_table()["kinds"][kind] if kind else {})}
    return Efficiency(
        kind=kind or "unknown",
        memory=entry["memory"],
        kv=entry["kv"],
        gemm=entry["gemm"],
        attention=(tuple(map(float, entry["attention"])), tuple(entry["attention"].values())),
        provenance="measured" if kind else "modelled",
        source=entry["source"],
    )


@cache
def measured_reduce(name: str) -> MeasuredReduce | None:
    """The measured all-reduce of machines with this GPU, where there is one."""
    kind = kind_of(name)
    entry = _table()["kinds"][kind] if kind else {}
    if "all_reduce" not in entry:
        return None
    points = entry["all_reduce"]
    return MeasuredReduce(
        fabric=entry["link"],
        counts=tuple(map(int, points)),
        alpha_s=tuple(p["alpha_us"] * 1e-6 for p in points.values()),
        bus=tuple(p["bus_GBps"] * 1e9 for p in points.values()),
    )
