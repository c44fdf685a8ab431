"""`rl`: rollout, reward and training, asynchronously."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Count, Real, Tokens, Whole
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.common import File
from hexdsl.ir.spec.metrics import RL
from hexdsl.ir.spec.model import FormatWord, Model
from hexdsl.ir.spec.rule import MetricInfo, Objective, Rule
from hexdsl.ir.spec.target import Target
from hexdsl.ir.spec.workload import Length
from hexdsl.ir.values import choice


class Grpo(Ir):
    """Group-relative policy optimisation: advantages within a group of answers to one prompt."""

    kind: Literal["grpo"] = "grpo"
    group: Count = 8
    clip: Real = Field(0.2, gt=0, lt=1)
    kl: Real = 0.0


class Ppo(Ir):
    """Proximal policy optimisation, decoupled from the behaviour policy."""

    kind: Literal["ppo"] = "ppo"
    clip: Real = Field(0.2, gt=0, lt=1)
    kl: Real = 0.0


Algorithm = Annotated[Grpo | Ppo, Field(discriminator="kind"), choice(Grpo, Ppo)]


class Rollout(Ir):
    """Generation of samples."""

    METRICS: ClassVar[tuple[MetricInfo, ...]] = RL

    prompts: Count = Field(512, description="prompts in one batch")
    max_tokens: Tokens = Field(4096, gt=0, description="longest answer")
    prompt: Length | None = Field(None, description="prompt lengths")
    output: Length | None = Field(None, description="output lengths")
    engine: Literal["auto", "torch", "vllm", "sglang"] = Field("auto", description="engine that generates")
    gpu: str | None = Field(None, description="kind of GPU to which the stage is pinned")
    rules: tuple[Rule, ...] = Field((), description="rules of this stage")


class Reward(Ir):
    """Scoring of samples."""

    kind: Literal["verifier", "model"] = Field("verifier", description="a function, or a reward model")
    workers: Count = Field(8, description="processes that score")
    model: Model | None = Field(None, description="reward model")
    module: str | None = Field(None, description="Python module with the verifier function")


class Train(Ir):
    """Policy updates."""

    METRICS: ClassVar[tuple[MetricInfo, ...]] = RL

    micro_batch: Count | None = Field(None, description="sequences in one micro-batch")
    batch: Count | None = Field(None, description="sequences in one update")
    precision: FormatWord = Field("bf16", description="number format of the computation")
    gpu: str | None = Field(None, description="kind of GPU to which the stage is pinned")
    rules: tuple[Rule, ...] = Field((), description="rules such as `zero in [1, 2, 3]`")


class RlEdge(Ir):
    """`train -> rollout`: how new weights reach the generators, and how old a sample may be."""

    source: str
    target: str
    sync: Literal["weights", "none"] = Field("none", description="what travels along the edge")
    max_staleness: Whole | None = Field(None, description="policy versions that a sample may lag behind")


class Rl(Ir):
    """Asynchronous reinforcement learning."""

    KIND: ClassVar[str] = "rl"
    METRICS: ClassVar[tuple[MetricInfo, ...]] = RL
    ENDPOINTS: ClassVar[tuple[str, ...]] = ("rollout", "reward", "train")

    name: str
    on: Cluster = Field(description="the cluster that may be used")
    policy: Model = Field(description="the model that is trained")
    algorithm: Algorithm = Field(Grpo.model_construct(), description="how the policy is updated")
    data: File | None = Field(None, description="prompts, as JSON lines")
    rollout: Rollout = Field(Rollout.model_construct(), description="generation of samples")
    reward: Reward = Field(Reward.model_construct(), description="scoring of samples")
    train: Train = Field(Train.model_construct(), description="policy updates")
    edges: tuple[RlEdge, ...] = Field((), description="what travels between the stages")
    target: tuple[Target, ...] = Field((), description="what is emitted")
    rules: tuple[Rule, ...] = Field((), description="what must hold")
    objectives: tuple[Objective, ...] = Field((), description="what to make large or small, in order of priority")
