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

from hexdsl.costs.overheads import Overheads

Provenance = Literal["given", "profiled", "measured", "modelled"]

TRUST: tuple[Provenance, ...] = ("given", "profiled", "measured", "modelled")
"""Best first."""


def weakest(*sources: Provenance) -> Provenance:
    """The provenance of a number that was made from several."""
    return max(sources, key=TRUST.index)


@dataclass(frozen=True, slots=True)
class MeasuredReduce:
    """All-reduce measured within one machine: seconds of start-up and bus bytes/s, by number of GPUs."""

    fabric: Literal["nvlink", "pcie"]
    counts: tuple[int, ...]
    alpha_s: tuple[float, ...]
    bus: tuple[float, ...]
    provenance: Provenance = "measured"


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the peak.  `attention` is (prompt lengths, shares of the 16-bit peak); `gemm` goes by format.

    A profile also has `reduce` and `overheads` where they were measured or fitted, factors on the times of arithmetic
    and of collectives, and in `base` the shares that hold beyond what was measured.
    """

    kind: str
    memory: float
    kv: float
    gemm: Mapping[str, float] = field(hash=False)
    attention: tuple[tuple[float, ...], tuple[float, ...]]
    provenance: Provenance
    source: str
    attention_provenance: Provenance | None = None
    base: Efficiency | None = None
    reduce: MeasuredReduce | None = None
    overheads: Overheads | None = None
    compute_factor: float = 1.0
    compute_provenance: Provenance | None = None
    network_factor: float = 1.0
    narrow: Mapping[str, tuple[float, Provenance]] = field(default_factory=dict, hash=False)
    """Share of `memory` at which weights of a 4-bit format are read."""
    tpot_band: float | None = None
    """Relative half-width of the range of TPOT that the validation of a calibration supports."""
    tile_rows: int = 0
    """Query rows of a tile that a decode fills alone in a step with prompts; 0 where it has a kernel of its own."""

    def attention_at(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Share of the peak of causal prefill attention, linear in the logarithm of the prompt length.

        Beyond the lengths of a profile its last share goes on as the base's curve does.
        """
        lengths, shares = self.attention
        s = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
        share = np.interp(np.log(s), np.log(lengths), shares) / self.compute_factor
        if self.base is None:
            return np.asarray(share)
        nearest = np.clip(s, lengths[0], lengths[-1])
        return np.asarray(np.minimum(1.0, share * self.base.attention_at(s) / self.base.attention_at(nearest)))

    def weights_at(self, name: str) -> tuple[float, Provenance]:
        """Share of the bandwidth at which weights of a format are read."""
        ratio, trust = self.narrow.get(name, (1.0, self.provenance))
        return self.memory * ratio, weakest(self.provenance, trust)

    def attention_trust(self, tokens: ArrayLike) -> Provenance:
        """Where `attention_at` comes from: a profile says nothing about prompts longer or shorter than it measured."""
        known = self.compute_provenance or self.attention_provenance or self.provenance
        s = np.asarray(tokens)
        lengths = self.attention[0]
        inside = self.base is None or (s.min() >= lengths[0] and s.max() <= lengths[-1])
        return known if inside else "modelled"

    def gemm_at(self, name: str) -> tuple[float, Provenance]:
        """Share of the peak of large products in a format; one that was not measured is scaled from bf16."""
        share, trust = self._gemm_at(name)
        return share / self.compute_factor, self.compute_provenance or trust

    def _gemm_at(self, name: str) -> tuple[float, Provenance]:
        if name not in self.gemm and self.base is not None and name in self.base.gemm:
            return self.base.gemm_at(name)
        if name in self.gemm:
            return self.gemm[name], self.provenance
        base = next((f for f in ("bf16", "fp16") if f in self.gemm), None)
        guess: float = _table()["fallback"]["gemm"][name]
        if base is None or name in ("bf16", "fp16"):
            return self.gemm.get(base or "", guess), self.provenance if base else "modelled"
        return guess * self.gemm[base] / _table()["fallback"]["gemm"][base], "modelled"


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
    own = _table()["kinds"][kind] if kind else {}
    entry = {**fallback, **own}
    return Efficiency(
        kind=kind or "unknown",
        memory=entry["memory"],
        kv=entry["kv"],
        gemm=entry["gemm"],
        attention=(tuple(map(float, entry["attention"])), tuple(entry["attention"].values())),
        provenance="measured" if kind else "modelled",
        source=entry["source"],
        narrow={name: _narrow(own.get("narrow", {}), name) for name in fallback["narrow"]},
        tile_rows=entry["tile_rows"],
    )


def _narrow(own: Mapping[str, float], name: str) -> tuple[float, Provenance]:
    return (own[name], "measured") if name in own else (_table()["fallback"]["narrow"][name], "modelled")


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


@cache
def pcie_without_peers(name: str) -> float | None:
    """Bytes/s per direction of the PCIe of cards that cannot reach one another's memory over it; None for others."""
    words = re.sub(r"[ _\-]+", " ", name.lower())
    cards: dict[str, float] = _table()["no_peer_to_peer"]["cards"]
    return next((gbps * 1e9 for match, gbps in cards.items() if re.search(match, words)), None)
