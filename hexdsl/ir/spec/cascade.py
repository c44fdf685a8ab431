"""`cascade`: a small model first, a larger one when needed."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Share
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.common import Name
from hexdsl.ir.spec.metrics import CASCADE
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.rule import Expr, MetricInfo, Objective, Rule
from hexdsl.ir.spec.target import Target
from hexdsl.ir.spec.think import Think
from hexdsl.ir.spec.workload import Workload


class Tier(Ir):
    """One model of a cascade."""

    METRICS: ClassVar[tuple[MetricInfo, ...]] = CASCADE

    name: Name
    model: Model = Field(description="the model of the tier")
    judge: Literal["logprob", "self", "reward"] | None = Field(None, description="what scores the tier's answers")
    think: Think | None = Field(None, description="reasoning branches")
    rules: tuple[Rule, ...] = Field((), description="rules of this tier")


class Escalation(Ir):
    """`quick -> deep`: when a request moves on."""

    WORDS: ClassVar[tuple[str, ...]] = ("confidence", "threshold", "score", "failed")

    source: str
    target: str
    when: Expr | None = Field(None, description="condition on the answer, such as `confidence < threshold`")
    threshold: Annotated[Literal["auto"] | Annotated[Share, Field(le=1)], Field(union_mode="left_to_right")] = Field(
        "auto", description="score below which a request moves on; `auto`: found by the compiler"
    )


class Cascade(Ir):
    """Tiers of models; a request climbs until an answer is good enough."""

    KIND: ClassVar[str] = "cascade"
    METRICS: ClassVar[tuple[MetricInfo, ...]] = CASCADE
    ENDPOINTS: ClassVar[tuple[str, ...]] = ("tier",)

    name: str
    on: Cluster = Field(description="the cluster that may be used")
    workload: Workload | None = Field(None, description="the load", json_schema_extra={"pin": "workload = NAME"})
    tier: tuple[Tier, ...] = Field(min_length=1, description="the models, smallest first")
    edges: tuple[Escalation, ...] = Field((), description="`quick -> deep { when, threshold }`")
    target: tuple[Target, ...] = Field((), description="what is emitted")
    rules: tuple[Rule, ...] = Field((), description="what must hold")
    objectives: tuple[Objective, ...] = Field((), description="what to make large or small, in order of priority")
