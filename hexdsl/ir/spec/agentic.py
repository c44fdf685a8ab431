"""`agentic`: a graph of model calls and tools, with tenants and deadlines."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Count, Quantity, Seconds, Share, Whole
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.common import Name
from hexdsl.ir.spec.metrics import AGENTIC
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.rule import Expr, MetricInfo, Objective, Rule
from hexdsl.ir.spec.target import Target
from hexdsl.ir.spec.workload import Arrivals, Length, Workload
from hexdsl.ir.values import choice


class Times(Ir):
    """How often a stage runs, both bounds included."""

    FORM: ClassVar[str] = "a whole number or a range of them, such as `0..3`"

    low: Whole
    high: Whole

    @model_validator(mode="after")
    def _ordered(self) -> Times:
        if self.low > self.high:
            raise PydanticCustomError("range", "the range is empty", {"help": "write low..high with low <= high"})
        return self


def _times(value: Any) -> Any:
    return {"low": value, "high": value} if isinstance(value, (int, Quantity)) else value


class Stage(Ir):
    """One model call of the graph."""

    METRICS: ClassVar[tuple[MetricInfo, ...]] = AGENTIC

    name: Name
    model: Model = Field(description="the model that is called")
    input: Length | None = Field(None, description="prompt lengths")
    output: Length | None = Field(None, description="output lengths")
    samples: Count = Field(1, description="parallel answers per call")
    repeat: Annotated[Times, BeforeValidator(_times)] | None = Field(
        None, description="how often the stage runs, such as `0..3`"
    )
    deadline: Seconds | None = Field(None, description="time that one run may take")
    rules: tuple[Rule, ...] = Field((), description="rules of this stage")


class Tool(Ir):
    """A step that is not a model call."""

    name: Name
    timeout: Seconds | None = Field(None, description="time after which the tool counts as failed")
    duration: Seconds | None = Field(None, description="time that the tool usually takes")


class AgenticEdge(Ir):
    """`a -> b`: what runs after what."""

    WORDS: ClassVar[tuple[str, ...]] = ("failed", "ok", "confidence", "score", "threshold")

    source: str
    target: str
    when: Expr | None = Field(None, description="condition, such as `failed`")
    probability: Share | None = Field(None, le=1, description="how likely the edge is taken")


class Tenant(Ir):
    """A group of users with a load and a deadline."""

    name: Name
    arrivals: Arrivals | None = Field(None, description="how the tenant's requests arrive")
    deadline: Seconds | None = Field(None, description="time in which a request must be answered")
    share: Share | None = Field(None, le=1, description="share of the machines that is due to the tenant")


class RoundRobin(Ir):
    """Instances in turn."""

    kind: Literal["round_robin"] = "round_robin"


class Balanced(Ir):
    """Instances by queue and speed; `alpha` weighs one against the other."""

    kind: Literal["balanced"] = "balanced"
    alpha: Annotated[Literal["tuned"] | Share, Field(union_mode="left_to_right")] = "tuned"


class Schedule(Ir):
    """Which instance takes a call, and in which order its queue is served."""

    dispatch: Annotated[Balanced | RoundRobin, Field(discriminator="kind"), choice(Balanced, RoundRobin)] = Field(
        Balanced.model_construct(), description="which instance takes a call"
    )
    order: Literal["urgency", "fifo", "shortest"] = Field("urgency", description="order of an instance's queue")


class Agentic(Ir):
    """A graph of model calls and tools."""

    KIND: ClassVar[str] = "agentic"
    METRICS: ClassVar[tuple[MetricInfo, ...]] = AGENTIC
    ENDPOINTS: ClassVar[tuple[str, ...]] = ("stage", "tool")

    name: str
    on: Cluster = Field(description="the cluster that may be used")
    workload: Workload | None = Field(None, description="the load, where no tenant gives it")
    stage: tuple[Stage, ...] = Field(min_length=1, description="model calls")
    tool: tuple[Tool, ...] = Field((), description="steps that are not model calls")
    edges: tuple[AgenticEdge, ...] = Field((), description="what runs after what")
    tenant: tuple[Tenant, ...] = Field((), description="groups of users")
    schedule: Schedule = Field(Schedule.model_construct(), description="dispatch and queue order")
    target: tuple[Target, ...] = Field((), description="what is emitted")
    rules: tuple[Rule, ...] = Field((), description="what must hold")
    objectives: tuple[Objective, ...] = Field((), description="what to make large or small, in order of priority")
