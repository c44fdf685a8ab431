"""Small clusters and loads that the simulator's tests share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from hexdsl.costs.gpu import Link
from hexdsl.sim.request import Request
from hexdsl.sim.spec import Cluster, EngineSpec, ReplicaSpec, Route, RouterSpec
from hexdsl.sim.steps import Batch


@dataclass(frozen=True)
class Plain:
    """Linear step times: a fixed part, per token, per token of context; the same in each stage, or scaled."""

    fixed_s: float = 0.01
    token_s: float = 1e-4
    context_s: float = 1e-7
    scale: tuple[float, ...] = (1.0,)

    @property
    def stages(self) -> int:
        return len(self.scale)

    @property
    def latency_s(self) -> tuple[float, ...]:
        return (0.0,) * len(self.scale)

    def seconds(self, batch: Batch) -> tuple[float, ...]:
        tokens = batch.decodes + sum(length for length, _ in batch.chunks)
        history = sum(length * past for length, past in batch.chunks)
        total = self.fixed_s + self.token_s * tokens + self.context_s * (batch.context + history)
        return tuple(total * scale for scale in self.scale)


PLAIN = Plain()
ENGINE = EngineSpec(blocks=1000, max_num_batched_tokens=512, max_num_seqs=16)


def request(number: int, at: float = 0.0, prompt: int = 100, output: int = 10, **more: Any) -> Request:
    return Request(number, at, prompt, output, **more)


def replica(name: str = "a", engine: EngineSpec = ENGINE, times: Plain = PLAIN, **more: Any) -> ReplicaSpec:
    return ReplicaSpec(name, engine, times, **more)


def one(**engine: Any) -> Cluster:
    """One replica with changes to its engine."""
    return Cluster((replica(engine=replace(ENGINE, **engine)),))


def many(count: int, policy: Literal["weighted", "least_loaded", "prefix"] = "weighted", **more: Any) -> Cluster:
    return Cluster(tuple(replica(f"r{i}", **more) for i in range(count)), RouterSpec(policy))


def split(bandwidth: float = 1e9, prefills: int = 1, decodes: int = 1, **engine: Any) -> Cluster:
    """Prefill and decode replicas behind one link."""
    limits = replace(ENGINE, **engine)
    left = tuple(replica(f"p{i}", limits, role="prefill") for i in range(prefills))
    right = tuple(replica(f"d{i}", limits, role="decode") for i in range(decodes))
    routes = tuple(Route(p.name, d.name, ("wire",), 1e6) for p in left for d in right)
    return Cluster((*left, *right), links={"wire": Link(bandwidth)}, routes=routes)
