"""`Spec`: what a user said, with names and parameters resolved and every figure in base units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union

from pydantic import Discriminator, Field, GetCoreSchemaHandler, Tag
from pydantic_core import CoreSchema

from hexdsl.ir.base import Ir
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.kinds import Kinds
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.workload import Workload

if TYPE_CHECKING:
    from hexdsl.ir.spec.agentic import Agentic
    from hexdsl.ir.spec.cascade import Cascade
    from hexdsl.ir.spec.pretrain import Pretrain
    from hexdsl.ir.spec.rl import Rl
    from hexdsl.ir.spec.serve import Serve

WORKFLOW_KINDS = Kinds("serve", "cascade", "agentic", "rl", "pretrain")
CATALOG_KINDS = Kinds("gpu", "cluster", "model", "workload")
KINDS = Kinds(*CATALOG_KINDS, *WORKFLOW_KINDS)
"""Every kind of top-level block but `target`, which is written inside a workflow or for the whole file."""


class Default(Ir):
    """A default that can change the plan and that the user did not write: printed once, with how to pin it."""

    place: str
    pin: str
    description: str


def _kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(type(value), "KIND", None)
    return str(kind)


class _AnyWorkflow:
    """Every workflow kind, loaded when the schema of a whole spec or plan is made: `check` never makes it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        tagged = tuple(Annotated[record, Tag(word)] for word, record in WORKFLOW_KINDS.items())
        return handler.generate_schema(Annotated[Union[tagged], Discriminator(_kind)])  # noqa: UP007


if TYPE_CHECKING:
    Workflow = Serve | Cascade | Agentic | Rl | Pretrain
else:
    Workflow = Annotated[Ir, _AnyWorkflow()]


class Spec(Ir):
    """A whole checked spec.  Workflows hold the clusters, models and workloads that they name."""

    ASIDE: ClassVar[tuple[str, ...]] = ("parameters",)  # their values are where they are used
    ANY_ORDER: ClassVar[tuple[str, ...]] = ("workflows", "clusters", "models", "workloads", "gpus", "defaults")

    format_version: str = "1.0"
    name: str = Field(description="stem of the root file")
    workflows: tuple[Workflow, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    models: tuple[Model, ...] = ()
    workloads: tuple[Workload, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    defaults: tuple[Default, ...] = Field((), description="defaults that can change the plan")
    parameters: dict[str, str] = Field({}, description="parameters in force, as text")
