"""`Spec`: what a user said, with names and parameters resolved and every figure in base units."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from hexdsl.ir.base import Ir
from hexdsl.ir.spec.agentic import Agentic
from hexdsl.ir.spec.cascade import Cascade
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.pretrain import Pretrain
from hexdsl.ir.spec.rl import Rl
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.workload import Workload

WORKFLOW_KINDS: dict[str, type[Ir]] = {k.KIND: k for k in (Serve, Cascade, Agentic, Rl, Pretrain)}
CATALOG_KINDS: dict[str, type[Ir]] = {k.KIND: k for k in (Gpu, Cluster, Model, Workload)}
KINDS: dict[str, type[Ir]] = CATALOG_KINDS | WORKFLOW_KINDS
"""Every kind of top-level block but `target`, which is written inside a workflow or for the whole file."""


class Default(Ir):
    """A default that can change the plan and that the user did not write: printed once, with how to pin it."""

    place: str
    pin: str
    description: str


def _kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(type(value), "KIND", None)
    return str(kind)


Workflow = Annotated[
    Annotated[Serve, Tag("serve")]
    | Annotated[Cascade, Tag("cascade")]
    | Annotated[Agentic, Tag("agentic")]
    | Annotated[Rl, Tag("rl")]
    | Annotated[Pretrain, Tag("pretrain")],
    Discriminator(_kind),
]


class Spec(Ir):
    """A whole checked spec.  Workflows hold the clusters, models and workloads that they name."""

    format_version: str = "1.0"
    name: str = Field(description="stem of the root file")
    workflows: tuple[Workflow, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    models: tuple[Model, ...] = ()
    workloads: tuple[Workload, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    defaults: tuple[Default, ...] = Field((), description="defaults that can change the plan")
    parameters: dict[str, str] = Field({}, description="parameters in force, as text")
