"""`serve`: one model behind an endpoint."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Count, Share, Tokens
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.common import Name
from hexdsl.ir.spec.metrics import SERVE
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.rule import MetricInfo, Objective, Rule
from hexdsl.ir.spec.target import Target
from hexdsl.ir.spec.think import Think
from hexdsl.ir.spec.workload import Workload
from hexdsl.ir.values import choice


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Places = Annotated[tuple[Name, ...], BeforeValidator(_several)]


class Phase(Ir):
    """`phase prefill` or `phase decode`: rules for the GPUs that do one half of the work."""

    METRICS: ClassVar[tuple[MetricInfo, ...]] = SERVE

    name: Literal["prefill", "decode"]
    parallel: Literal["auto"] = Field("auto", description="how the phase is split over GPUs")
    on: Places = Field((), description="groups of machines, or regions, to which the phase is bound")
    rules: tuple[Rule, ...] = Field((), description="rules such as `tp in [1, 2, 4]`")


class ServeEdge(Ir):
    """`prefill -> decode`: how the KV cache travels."""

    source: str
    target: str
    kv_transfer: Literal["auto", "overlapped", "blocking"] = Field(
        "auto", description="transfer while computing, or after"
    )


class Weighted(Ir):
    """Replicas get requests by the plan's weights."""

    kind: Literal["weighted"] = "weighted"


class PerRequest(Ir):
    """A chain of peers is chosen for each request."""

    kind: Literal["per_request"] = "per_request"
    cost: Literal["latency", "load"] = "latency"


Routing = Annotated[Weighted | PerRequest, Field(discriminator="kind"), choice(Weighted, PerRequest)]


class OnChange(Ir):
    """What happens when machines or load change."""

    node_lost: Literal["reschedule", "ignore"] = Field("reschedule", description="what a lost machine causes")
    rate_shift: Share = Field(
        0.3, description="change of the load that causes a new plan", json_schema_extra={"example": "30%"}
    )
    restart: Literal["never", "allowed"] = Field("never", description="whether weights may be loaded anew")


class Serve(Ir):
    """One model behind an endpoint."""

    KIND: ClassVar[str] = "serve"
    METRICS: ClassVar[tuple[MetricInfo, ...]] = SERVE
    ENDPOINTS: ClassVar[tuple[str, ...]] = ()
    PHASES: ClassVar[tuple[str, ...]] = ("prefill", "decode")

    name: str
    model: Model = Field(description="the model that is served")
    on: Cluster = Field(description="the cluster that may be used")
    workload: Workload | None = Field(
        None,
        description="the load; left out: requests of 1000 prompt and 200 output tokens",
        json_schema_extra={"pin": "workload = NAME"},
    )
    phase: tuple[Phase, ...] = Field((), description="rules for prefill and for decode")
    edges: tuple[ServeEdge, ...] = Field((), description="`prefill -> decode { kv_transfer = ... }`")
    context: Tokens | None = Field(
        None, gt=0, description="longest prompt and answer together; left out: the model's, or what the load needs"
    )
    utilization: Share = Field(
        0.9,
        gt=0,
        le=1,
        description="share of a GPU's memory that the engine may fill",
        json_schema_extra={"pin": "utilization = 90%"},
    )
    max_batch: Count = Field(
        256, description="requests that one replica may run together", json_schema_extra={"pin": "max_batch = 256"}
    )
    routing: Routing = Field(Weighted.model_construct(), description="how a replica is chosen for a request")
    on_change: OnChange = Field(OnChange.model_construct(), description="what happens when machines or load change")
    think: Think | None = Field(None, description="reasoning branches")
    target: tuple[Target, ...] = Field((), description="what is emitted")
    rules: tuple[Rule, ...] = Field((), description="what must hold")
    objectives: tuple[Objective, ...] = Field((), description="what to make large or small, in order of priority")
