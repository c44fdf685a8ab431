"""The machines of a cluster, one by one, with their GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.ir.plan import Device, Machine, Plan
from hexdsl.ir.spec.cluster import Cluster, GpuSet, Nodes

FABRIC = "node"
"""Group name of the machines of a leaf/spine fabric, which are all alike."""

MOST_GPUS = 65_536
"""Larger inventories are refused before they fill the memory: each GPU is a record of the plan."""


def inventory(plan: Plan) -> Plan:
    """Lists every machine and GPU that the workflow may use.

    Gives `machines`.  Raises NoPlanError: P008 for forms of cluster that are checked but not planned yet, P002 where
    a machine-made spec has a cluster without machines.
    """
    cluster = plan.workflow.on
    if cluster.peers is not None and not cluster.nodes:
        help_ = "write the machines as `nodes NAME { ... }`"
        raise NoPlanError(
            [Diagnostic("P008", f"a pool of peers (cluster `{cluster.name}`) is not planned yet", (), help_)]
        )
    if (gpus := sum(g.count * g.gpus.count for g in groups_of(cluster))) > MOST_GPUS:
        message = f"cluster `{cluster.name}` has {gpus:,} GPUs; up to {MOST_GPUS:,} are planned"
        raise NoPlanError([Diagnostic("P008", message, (), "plan a part of it")])
    machines = tuple(machines_of(cluster))
    if not machines:
        raise NoPlanError([Diagnostic("P002", f"cluster `{cluster.name}` has no machines")])
    return plan.with_(machines=machines)


def machines_of(cluster: Cluster) -> Iterator[Machine]:
    """The machines in the order in which the spec lists them."""
    for group in groups_of(cluster):
        for i in range(group.count):
            name = f"{group.name}-{i}"
            yield Machine(id=name, group=group.name, host=_host(group, i), devices=tuple(_devices(name, group.gpus)))


def groups_of(cluster: Cluster) -> tuple[Nodes, ...]:
    """The groups of equal machines; those of a fabric are one group."""
    if cluster.leaf is None or cluster.node is None:
        return cluster.nodes
    node = cluster.node
    fabric = Nodes(
        name=FABRIC, count=cluster.leaf.count * cluster.leaf.nodes, gpus=node.gpus, interconnect=node.interconnect,
        nic=node.nic, price=node.price, host_memory=node.host_memory,
    )  # fmt: skip
    return (*cluster.nodes, fabric)


def _host(group: Nodes, index: int) -> str:
    return group.hosts[index] if group.hosts else f"{group.name}-{index}"


def _devices(machine: str, gpus: GpuSet) -> Iterator[Device]:
    return (Device(id=f"{machine}:{k}", gpu=gpus.gpu.name, index=k) for k in range(gpus.count))
