"""The JSON files of a bundle that the runtime reads: one engine config a replica, and one router config."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from hexdsl.ir.base import Ir

Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Rank = Annotated[int, Field(ge=0)]
Dtype = Literal["float32", "bfloat16", "float16"]
Role = Literal["both", "prefill", "decode"]
Bits = Literal[4, 8, 16, 32]


class RuntimeFault(Exception):
    """Something the user can put right (a config, a folder, a port): one line on stderr, exit code 2."""


class ModelConfig(Ir):
    """What is served: the name that clients send, the Hugging Face checkpoint, the type of its numbers."""

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    dtype: Dtype = "float32"

    @property
    def folder(self) -> Path:
        return Path(self.path).expanduser()


class StageConfig(Ir):
    """Layers `[first, end)` held by `ranks`; several ranks are a tensor-parallel group."""

    layers: tuple[Rank, Rank]
    ranks: tuple[Rank, ...] = Field(min_length=1)

    @property
    def tp(self) -> int:
        return len(self.ranks)

    @property
    def span(self) -> range:
        return range(*self.layers)


class KvConfig(Ir):
    """The paged KV cache: `blocks` of `block_tokens` positions, the same on every stage."""

    block_tokens: Positive = 16
    blocks: Positive

    @property
    def tokens(self) -> int:
        return self.block_tokens * self.blocks

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)


class Limits(Ir):
    """`prefill_chunk_tokens` is the token budget of one step, decodes included."""

    max_batch: Positive = 8
    max_context: Annotated[int, Field(ge=2)] = 2048
    max_queue: Annotated[int, Field(ge=0)] = 64
    prefill_chunk_tokens: Positive = 512

    @model_validator(mode="after")
    def _decodes_leave_room(self) -> Self:
        if self.prefill_chunk_tokens < self.max_batch:
            raise ValueError("prefill_chunk_tokens must be at least max_batch, or decodes would starve prefill")
        return self


class EngineConfig(Ir):
    """One replica: its stages in order, its KV pool, its limits and its HTTP address.

    `role` is the half of the work that it begins with; a router may change it, and requests are what decides.
    """

    format_version: Literal["1.0"]
    replica: str = Field(min_length=1)
    role: Role = "both"
    model: ModelConfig
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    kv: KvConfig
    limits: Limits = Limits()
    device: Literal["cpu", "cuda"] = "cpu"
    host: str = "127.0.0.1"
    port: Port
    kernels: tuple[str, ...] = ()

    @property
    def world(self) -> int:
        return sum(stage.tp for stage in self.stages)

    @property
    def capacity(self) -> int:
        """The most tokens (prompt and answer) that one request may hold."""
        return min(self.limits.max_context, self.kv.tokens)

    def stage_of(self, rank: int) -> int:
        return next(index for index, stage in enumerate(self.stages) if rank in stage.ranks)

    @model_validator(mode="after")
    def _stages_follow_each_other(self) -> Self:
        end = 0
        for stage in self.stages:
            if stage.layers[0] != end or stage.layers[1] <= end:
                raise ValueError(f"stages must cover the layers without gaps: {list(stage.layers)} after {end}")
            end = stage.layers[1]
        ranks = [rank for stage in self.stages for rank in stage.ranks]
        if ranks != list(range(len(ranks))):
            raise ValueError(f"ranks must be numbered 0, 1, 2 ... through the stages, not {ranks}")
        return self


class ReplicaConfig(Ir):
    """Where the router finds a replica, and the share of the requests it gets (relative to others of its role).

    `max_batch` and `step_tokens` are told to a replica of our own engine with its role; without them they stay.
    """

    name: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://")
    weight: float = Field(gt=0)
    role: Role = "both"
    max_batch: Positive | None = None
    step_tokens: Positive | None = None


class HandoverConfig(Ir):
    """The share of a prefill replica's requests that a decode replica goes on with, and the bits of a KV value."""

    source: str
    target: str
    weight: float = Field(gt=0)
    bits: Bits = 16


class HolderConfig(Ir):
    """A peer as the router of chains sees it: where it takes activations, what it holds, how quick it is, and where."""

    name: str = Field(min_length=1)
    host: str
    port: Port
    layers: tuple[Rank, Rank]
    layer_s: float = Field(gt=0)
    seats: Positive
    place: Rank


class TurnConfig(Ir):
    """A chain over whole peers that is due for a share of the requests."""

    chain: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(gt=0)


class ChainsConfig(Ir):
    """Who holds which of `layers` layers, and how far the places of the holders are from each other.

    By `latency` each request takes the cheapest chain as things are; by `load` the `turns` come round by weight.
    """

    cost: Literal["latency", "load"] = "latency"
    layers: Positive
    holders: tuple[HolderConfig, ...] = Field(min_length=1)
    delays_s: tuple[tuple[float | None, ...], ...]
    turns: tuple[TurnConfig, ...] = ()

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        names = {holder.name for holder in self.holders}
        if len(names) != len(self.holders):
            raise ValueError("two holders have the same name")
        if any(len(row) != len(self.delays_s) for row in self.delays_s):
            raise ValueError("delays_s must have as many columns as rows")
        if any(h.place >= len(self.delays_s) or not h.layers[0] < h.layers[1] <= self.layers for h in self.holders):
            raise ValueError("a holder has no place, or layers that the model has not")
        if any(not set(turn.chain) <= names for turn in self.turns):
            raise ValueError("a turn names a holder that is not there")
        return self


class RoutingConfig(Ir):
    """Who gets which requests.  It may change while the router runs.

    With `chains` the replicas are peers that hold parts of the model.  A replica that prefills and has no handovers of
    its own shares its requests out by the weights of those that decode.
    """

    replicas: tuple[ReplicaConfig, ...] = Field(min_length=1)
    handovers: tuple[HandoverConfig, ...] = ()
    chains: ChainsConfig | None = None

    @model_validator(mode="after")
    def _chains_are_over_replicas(self) -> Self:
        if self.chains and {h.name for h in self.chains.holders} != {replica.name for replica in self.replicas}:
            raise ValueError("the holders of chains must be the replicas")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({replica.name for replica in self.replicas}) != len(self.replicas):
            raise ValueError("two replicas have the same name")
        return self

    @model_validator(mode="after")
    def _both_halves(self) -> Self:
        roles = {replica.role for replica in self.replicas}
        if len(roles & {"prefill", "decode"}) == 1:
            raise ValueError("replicas that prefill need replicas that decode, and the other way round")
        return self

    @model_validator(mode="after")
    def _handovers_join_halves(self) -> Self:
        roles = {replica.name: replica.role for replica in self.replicas}
        for h in self.handovers:
            if (roles.get(h.source), roles.get(h.target)) != ("prefill", "decode"):
                raise ValueError(f"a handover goes from a prefill to a decode replica, not {h.source} to {h.target}")
        return self


class RouterConfig(RoutingConfig):
    """The endpoint of the service.  `max_queue` bounds the requests that are being answered at once.

    With `protocol` "hexc" the replicas are our own engine: requests survive the loss of a replica in the middle of an
    answer, and their KV moves between replicas.  With "chains" they are peers that hold parts of the model.  With
    "openai" they are any servers with OpenAI's API.
    """

    format_version: Literal["1.0"]
    host: str = "127.0.0.1"
    port: Port
    model: str
    protocol: Literal["openai", "hexc", "chains"] = "openai"
    max_queue: Positive = 256
    max_body_bytes: Positive = 1 << 20

    @property
    def routing(self) -> RoutingConfig:
        return RoutingConfig(replicas=self.replicas, handovers=self.handovers, chains=self.chains)

    @model_validator(mode="after")
    def _chains_are_spoken(self) -> Self:
        if (self.protocol == "chains") != (self.chains is not None):
            raise ValueError('`chains` and protocol "chains" go together')
        return self


Config = TypeVar("Config", bound=Ir)


def read(path: Path, kind: type[Config]) -> Config:
    """The config in a file.  Raises `RuntimeFault` with one line that names the file and the field."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RuntimeFault(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise RuntimeFault(f"{path}: not JSON: {error}") from None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise RuntimeFault(f"{path}: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """The first complaint of pydantic in one line: `kv.blocks: Input should be greater than or equal to 1`."""
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    words = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {words}" if place else words


@contextmanager
def faults_to_exit(program: str) -> Iterator[None]:
    """Turns a `RuntimeFault` into one line on stderr and exit code 2; Ctrl-C ends with 130, a closed stdout with 1."""
    try:
        yield
    except RuntimeFault as fault:
        stop_with(f"{program}: {fault}", 2)
    except KeyboardInterrupt:
        stop_with(f"{program}: interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at the end would fail again
        sys.exit(1)


def stop_with(line: str, code: int) -> NoReturn:
    """Ends the program with a line on stderr."""
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(code)
