"""The JSON file of a peer: `python -m hexdsl.runtime.chain_peer --config config/peer-0.json`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hexdsl.ir.base import Ir
from hexdsl.runtime.config import KvConfig, Limits, ModelConfig, Port, Positive, Rank


class PeerConfig(Ir):
    """One peer: the layers `[first, end)` that it holds of the model's, its KV pool, its limits and its addresses.

    `port` takes requests over HTTP, `wire_port` what other peers send; both on `host`.
    """

    format_version: Literal["1.0"]
    peer: str = Field(min_length=1)
    model: ModelConfig
    layers: tuple[Rank, Positive]
    total_layers: Positive
    kv: KvConfig
    limits: Limits = Limits()
    device: Literal["cpu", "cuda"] = "cpu"
    host: str = "127.0.0.1"
    port: Port
    wire_port: Port
    kernels: tuple[str, ...] = ()

    @property
    def capacity(self) -> int:
        """The most tokens (prompt and answer) that one request may hold."""
        return min(self.limits.max_context, self.kv.tokens)

    @model_validator(mode="after")
    def _holds_layers(self) -> Self:
        if not self.layers[0] < self.layers[1] <= self.total_layers:
            raise ValueError(f"layers {list(self.layers)} are none of the {self.total_layers} of the model")
        return self
