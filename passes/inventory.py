"""The machines of a cluster, one by one, with their GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.ir.plan import Device, Machine, Plan
from hexdsl.ir.spec.cluster import Cluster, GpuSet, Nodes, PeerGroup
from hexdsl.passes.pool.crowd import groups_of_peers, told_apart
from hexdsl.passes.pool.wires import assumed

FABRIC = "node"
"""Group name of the machines of a leaf/spine fabric, which are all alike."""

MOST_GPUS = 65_536
"""Larger inventories are refused before they fill the memory: each GPU is a record of the plan."""

MOST_GROUPS = 1_000
"""More kinds of machine are refused: every two of them have a link of their own."""


def inventory(plan: Plan) -> Plan:
    """Lists every machine and GPU that the workflow may use.

    Gives `machines`.  Raises NoPlanError: P008 for forms of cluster that are checked but not planned yet, P002 where
    a machine-made spec has a cluster without machines.  Peers are machines of a name of their own.
    """
    cluster = plan.workflow.on
    if cluster.peers is not None and not cluster.peers.rows:
        message = f"nothing was read from `{cluster.peers.path}`, the peers of cluster `{cluster.name}`"
        help_ = "write the spec in the language, or give the rows in `peers`, as `hexc schema --json` says"
        raise NoPlanError([Diagnostic("P008", message, (), help_)])
    if (kinds := len(groups_of(cluster))) > MOST_GROUPS:
        message = f"cluster `{cluster.name}` has {kinds:,} kinds of machine; up to {MOST_GROUPS:,} are planned"
        help_ = "write equal machines as one block with their number, such as `count = 16`"
        raise NoPlanError([Diagnostic("P008", message, (), help_)])
    if (gpus := sum(g.count * g.gpus.count for g in groups_of(cluster))) > MOST_GPUS:
        message = f"cluster `{cluster.name}` has {gpus:,} GPUs; up to {MOST_GPUS:,} are planned"
        raise NoPlanError([Diagnostic("P008", message, (), "plan a part of it")])
    machines = machines_left(plan)
    if not machines:
        raise NoPlanError([Diagnostic("P002", f"cluster `{cluster.name}` has no machines")])
    if (twice := next((n for n, k in Counter(m.id for m in machines).items() if k > 1), None)) is not None:
        message = f"two machines of cluster `{cluster.name}` are called `{twice}`"
        raise NoPlanError([Diagnostic("P008", message, (), "give the peer another name")])
    said = (told_apart(cluster), assumed(cluster))
    return plan.with_(machines=machines, notes=(*plan.notes, *filter(None, said)))


def machines_left(plan: Plan) -> tuple[Machine, ...]:
    """The machines of the spec but those that are lost."""
    gone = set(plan.lost)
    return tuple(m for m in machines_of(plan.workflow.on) if m.id not in gone)


def machines_of(cluster: Cluster) -> Iterator[Machine]:
    """The machines in the order in which the spec lists them."""
    for group in groups_of(cluster):
        for i in range(group.count):
            name = group.hosts[i] if isinstance(group, PeerGroup) else f"{group.name}-{i}"
            yield Machine(id=name, group=group.name, host=_host(group, i), devices=tuple(_devices(name, group.gpus)))


def groups_of(cluster: Cluster) -> tuple[Nodes, ...]:
    """The groups of equal machines; those of a fabric are one group, and peers are grouped by what they have."""
    peers = groups_of_peers(cluster)
    if cluster.leaf is None or cluster.node is None:
        return (*cluster.nodes, *peers)
    node = cluster.node
    fabric = Nodes(
        name=FABRIC, count=cluster.leaf.count * cluster.leaf.nodes, gpus=node.gpus, interconnect=node.interconnect,
        nic=node.nic, price=node.price, host_memory=node.host_memory,
    )  # fmt: skip
    return (*cluster.nodes, fabric, *peers)


def _host(group: Nodes, index: int) -> str:
    return group.hosts[index] if group.hosts else f"{group.name}-{index}"


def _devices(machine: str, gpus: GpuSet) -> Iterator[Device]:
    return (Device(id=f"{machine}:{k}", gpu=gpus.gpu.name, index=k) for k in range(gpus.count))
