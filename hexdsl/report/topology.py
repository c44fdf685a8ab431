"""What a cluster looks like to the views: groups of equal machines, and the links inside and between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hexdsl.ir.plan import Machine, Plan
from hexdsl.ir.spec import Workflow
from hexdsl.ir.spec.cluster import Cluster, FabricNode, Nodes
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.report import figures as say

FABRIC = "node"
"""Group name of the machines of a leaf/spine fabric, which are all alike."""


@dataclass(frozen=True)
class Group:
    """Equal machines: how many, their GPUs, and how these are joined.  `machines` is empty without a plan."""

    name: str
    count: int
    gpus: int
    gpu: Gpu | None
    inside: float | None
    machines: tuple[Machine, ...] = ()

    @property
    def title(self) -> str:
        """`middle: 2 machines of 4 x A100, 80GB each`."""
        kind = "" if self.gpu is None else f" x {self.gpu.name}, {say.memory(self.gpu.memory)} each"
        return say.clean(f"{self.name}: {say.count(self.count, 'machine')} of {self.gpus}{kind or ' GPUs'}")


@dataclass(frozen=True)
class Join:
    """A link: inside the machines or among the machines of one group, or between two groups or regions."""

    kind: str
    left: str
    right: str
    bandwidth: str
    latency: str = ""

    @property
    def words(self) -> str:
        """What is joined: `big <-> middle`, `inside a machine of big`."""
        if self.kind == "between":
            return f"{self.left} <-> {self.right}"
        return f"inside a machine of {self.left}" if self.kind == "inside" else f"between machines of {self.left}"

    @property
    def label(self) -> str:
        return ", ".join(filter(None, (self.bandwidth, self.latency)))


def cluster_of(subject: Plan | Workflow) -> Cluster:
    """The cluster that a plan or a workflow is about."""
    return subject.workflow.on if isinstance(subject, Plan) else subject.on


def groups(subject: Plan | Workflow) -> tuple[Group, ...]:
    """The groups of a plan's machines or, without a plan, of the workflow's cluster."""
    listed = tuple(_declared(cluster_of(subject)))
    if not isinstance(subject, Plan):
        return listed
    declared = {g.name: g for g in listed}
    names = dict.fromkeys(m.group for m in subject.machines)
    return tuple(_held(name, subject, declared.get(name)) for name in names)


def _held(name: str, plan: Plan, declared: Group | None) -> Group:
    machines = tuple(m for m in plan.machines if m.group == name)
    gpu, inside = (declared.gpu, declared.inside) if declared else (None, None)
    return Group(name, len(machines), len(machines[0].devices), gpu, inside, machines)


def _declared(cluster: Cluster) -> Iterator[Group]:
    for nodes in cluster.nodes:
        yield _group(nodes.name, nodes.count, nodes)
    if cluster.leaf and cluster.node:
        yield _group(FABRIC, cluster.leaf.count * cluster.leaf.nodes, cluster.node)


def _group(name: str, count: int, node: Nodes | FabricNode) -> Group:
    return Group(name, count, node.gpus.count, node.gpus.gpu, node.interconnect or node.gpus.gpu.link)


def joins(subject: Plan | Workflow) -> tuple[Join, ...]:
    """Every link of the cluster, from the inside of machines outwards."""
    inside = ((g.name, g.inside) for g in groups(subject) if g.inside and g.gpus > 1)
    machines = (Join("inside", name, name, say.bandwidth(speed)) for name, speed in inside)
    return (*machines, *_networks(cluster_of(subject)))


def _networks(cluster: Cluster) -> Iterator[Join]:
    for within in cluster.within:
        yield Join("within", within.name, within.name, say.network(within.bandwidth), say.amount(within.latency, "s"))
    for link in cluster.links:
        yield Join("between", link.left, link.right, say.network(link.bandwidth), say.amount(link.latency, "s"))
    for region in cluster.region:
        if region.bandwidth:
            latency = say.amount(region.latency, "s") if region.latency else ""
            yield Join("region", region.name, region.name, say.network(region.bandwidth), latency)
