"""Which model a plan serves, and where each replica runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hexdsl.ir.plan import Plan, Replica
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.target import Target
from hexdsl.targets.devices import address, gpu_kinds, is_cpu


@dataclass(frozen=True, slots=True)
class Site:
    """What serves requests: its name in the bundle, the replica, its address, and the kind of device."""

    name: str
    replica: Replica
    host: str
    port: int
    device: Literal["cpu", "cuda"]

    @property
    def config(self) -> str:
        return f"config/{self.name}.json"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Place(Site):
    """A replica, at its rank 0, with the port where its ranks meet."""

    meeting_port: int


def places_of(plan: Plan, target: Target) -> tuple[Place, ...]:
    """A place for every replica."""
    return tuple(_place(plan, target, index) for index in range(len(plan.replicas)))


def _place(plan: Plan, target: Target, index: int) -> Place:
    """Ports follow the router's: first those of the replicas, then those where their ranks meet."""
    replica = plan.replicas[index]
    host = address(plan.machine(replica.stages[0].machine), target)
    gpu = gpu_kinds(plan)[replica.stages[0].gpu]
    port = target.ports + 1 + index
    device: Literal["cpu", "cuda"] = "cpu" if is_cpu(gpu) else "cuda"
    return Place(f"replica-{index}", replica, host, port, device, meeting_port=port + len(plan.replicas))


def served(plan: Plan) -> Model:
    """The model of a serve plan; `supports` lets no other plan through."""
    assert isinstance(plan.workflow, Serve)
    return plan.workflow.model
