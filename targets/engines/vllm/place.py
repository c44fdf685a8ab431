"""Where the parts of each replica run: the machines that it takes, and the ports."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from hexdsl.ir.engine import Part
from hexdsl.ir.plan import Device, Machine, Plan, Replica, Stage
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.target import Target
from hexdsl.targets.devices import address, gpu_kinds, is_cpu

PORTS_PER_REPLICA = 3
"""For requests, for its machines to meet, and for those that fetch its KV cache."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a replica and the devices there, in the order of the ranks."""

    machine: Machine
    address: str
    devices: tuple[Device, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A replica's name in the bundle, its machines in the order of the ranks, its ports and its kind of device."""

    name: str
    replica: Replica
    nodes: tuple[Node, ...]
    gpu: Gpu
    port: int
    meeting_port: int
    handover_port: int

    @property
    def host(self) -> str:
        return self.nodes[0].address

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def script(self) -> str:
        return f"config/{self.name}.sh"

    @property
    def cpu(self) -> bool:
        return is_cpu(self.gpu)

    @property
    def tp(self) -> int:
        """The TP degree of all its stages."""
        return self.replica.stages[0].tp

    @property
    def pp(self) -> int:
        return len(self.replica.stages)


def places_of(plan: Plan, target: Target) -> tuple[Place, ...]:
    """A place for every replica.  Ports follow the router's: first all those for requests."""
    count, kinds = len(plan.replicas), gpu_kinds(plan)
    return tuple(
        Place(
            name=f"replica-{index}",
            replica=replica,
            nodes=_nodes(plan, replica, target),
            gpu=kinds[replica.stages[0].gpu],
            port=target.ports + 1 + index,
            meeting_port=target.ports + 1 + count + index,
            handover_port=target.ports + 1 + 2 * count + index,
        )
        for index, replica in enumerate(plan.replicas)
    )


def parts_of(replica: Replica, plan: Plan) -> tuple[Part, ...]:
    """The stages of a replica as engine limits see them."""
    formats = {p.gpu: (p.weights, p.activations, p.kv) for p in plan.precision}
    return tuple(Part(stage.machine, formats[stage.gpu], stage.tp) for stage in replica.stages)


def hands_over(plan: Plan) -> bool:
    """Whether some replicas only do one half of the work, so that KV caches travel."""
    return any(replica.role != "both" for replica in plan.replicas)


def kinds_of_halves(plan: Plan) -> tuple[str, ...]:
    """The kinds of GPU between which KV caches travel."""
    return tuple(sorted({s.gpu for replica in plan.replicas if replica.role != "both" for s in replica.stages}))


def _nodes(plan: Plan, replica: Replica, target: Target) -> tuple[Node, ...]:
    runs = [(name, tuple(stages)) for name, stages in groupby(replica.stages, lambda stage: stage.machine)]
    return tuple(_node(plan.machine(name), stages, target) for name, stages in runs)


def _node(machine: Machine, stages: tuple[Stage, ...], target: Target) -> Node:
    known = {device.id: device for device in machine.devices}
    devices = tuple(known[name] for stage in stages for name in stage.devices)
    return Node(machine, address(machine, target), devices, stages)
