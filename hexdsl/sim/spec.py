"""What is simulated: engines, replicas, the router, links between pools, failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hexdsl.costs.gpu import Link
from hexdsl.sim.steps import StepTimes


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Limits and rules of an engine; the rules are those of vLLM's V1 scheduler.

    A step holds at most `max_num_batched_tokens` tokens and `max_num_seqs` sequences; the KV cache has `blocks` blocks
    of `block_size` tokens.  `reserve_full_prompt` admits a request only if all its tokens fit (vLLM's
    `scheduler_reserve_full_isl`).  `max_model_len` ends a sequence; None means what the KV cache holds.  `entry_s`
    passes between a request's arrival and the moment when the scheduler sees it.
    """

    blocks: int
    block_size: int = 16
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256
    chunked_prefill: bool = True
    prefix_caching: bool = True
    reserve_full_prompt: bool = True
    policy: Literal["fcfs", "priority"] = "fcfs"
    max_model_len: int | None = None
    entry_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.blocks, self.block_size, self.max_num_seqs) < 1:
            raise ValueError("blocks, block_size and max_num_seqs must be at least 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError("max_num_batched_tokens must not be below max_num_seqs")
        if self.entry_s < 0 or (self.max_model_len is not None and self.max_model_len < 2):
            raise ValueError("entry_s must not be negative, and max_model_len at least 2")

    @property
    def longest(self) -> int:
        """Tokens at which a sequence ends.  Without chunked prefill a prompt must also fit in one step."""
        room = min(self.blocks * self.block_size, self.max_model_len or self.blocks * self.block_size)
        return room if self.chunked_prefill else min(room, self.max_num_batched_tokens)


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """A copy of a model.

    A `prefill` replica hands each request over after its first token, to a `decode` one.  The replica fails when one
    of its `nodes` does.
    """

    name: str
    engine: EngineSpec
    times: StepTimes
    role: Literal["both", "prefill", "decode"] = "both"
    model: str = ""
    nodes: tuple[str, ...] = ()
    usd_per_h: float = 0.0


@dataclass(frozen=True, slots=True)
class RouterSpec:
    """How requests find a replica.

    `weighted` is smooth weighted round-robin, as hexc's own router does it.  `least_loaded` takes the replica with the
    fewest unfinished requests per weight.  `prefix` takes the replica that holds most of the prompt, unless it has more
    than `slack` unfinished requests above the least loaded one.  A weight that is not given is 1.  `pairs` weights the
    decode replicas for each prefill replica; without it they are chosen by `policy`.
    """

    policy: Literal["weighted", "least_loaded", "prefix"] = "weighted"
    weights: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    slack: int = 8

    def __post_init__(self) -> None:
        if any(not 0 <= w < float("inf") for w in (*self.weights.values(), *self.pairs.values())):
            raise ValueError("weights must be finite and not negative")


@dataclass(frozen=True, slots=True)
class Route:
    """The links, by name, that KV caches cross from one replica to another, and the bytes of a token on them."""

    source: str
    target: str
    links: tuple[str, ...]
    token_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A replica or a node stops at a time, and comes back empty `down_s` later (never, by default)."""

    at_s: float
    name: str
    down_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything that serves.  Transfers that use a link at the same time share it evenly."""

    replicas: tuple[ReplicaSpec, ...]
    router: RouterSpec = RouterSpec()
    links: Mapping[str, Link] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    failures: tuple[Failure, ...] = ()

    def __post_init__(self) -> None:
        names = [replica.name for replica in self.replicas]
        roles = {replica.role for replica in self.replicas}
        if not names or len(set(names)) < len(names):
            raise ValueError("a cluster needs replicas, each with a name of its own")
        if "prefill" in roles and "decode" not in roles:
            raise ValueError("prefill replicas need a decode replica to hand over to")
        if roles == {"decode"}:
            raise ValueError("decode replicas need a prefill replica to hear from")
        self._check_names(set(names))

    def _check_names(self, names: set[str]) -> None:
        places = names.union(*(replica.nodes for replica in self.replicas))
        _known("weight", self.router.weights, names)
        _known("pair", (name for pair in self.router.pairs for name in pair), names)
        _known("route", (name for route in self.routes for name in (route.source, route.target)), names)
        _known("link", (link for route in self.routes for link in route.links), set(self.links))
        _known("failure", (failure.name for failure in self.failures), places)


def _known(what: str, used: object, names: set[str]) -> None:
    if unknown := sorted(set(used) - names):  # type: ignore[call-overload]
        raise ValueError(f"{what} names `{unknown[0]}`, which is none of {', '.join(sorted(names)) or 'those given'}")


@dataclass(frozen=True, slots=True)
class SimConfig:
    """How to simulate.  A decode run is jumped over in pieces of up to `max_jump` steps; 1 computes every step."""

    max_jump: int = 64
    until_s: float = float("inf")
