"""`cluster`: the inventory of machines, GPUs and links."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from hexdsl.ir.base import Ir
from hexdsl.ir.quantity import Bandwidth, Bytes, Churn, Count, GpuPrice, Seconds
from hexdsl.ir.spec.common import File, FileRef, Host, Name, file_of
from hexdsl.ir.spec.gpu import Gpu


class GpuSet(Ir):
    """`8 * H100`: some GPUs of one kind in one node."""

    FORM: ClassVar[str] = "GPUs of one `gpu`, such as `8 * H100`"

    count: Count
    gpu: Gpu


def _one(value: Any) -> Any:
    return {"count": 1, "gpu": value} if isinstance(value, Gpu) else value


Gpus = Annotated[GpuSet, BeforeValidator(_one)]


class Nodes(Ir):
    """Some equal machines.  Nodes of one block are interchangeable: that is what keeps planning quick."""

    name: Name
    count: Count = Field(1, description="how many such machines there are")
    gpus: Gpus = Field(description="GPUs of one machine, such as `8 * H100`")
    interconnect: Bandwidth | None = Field(
        None, description="GPU-to-GPU link inside a machine, both directions together; left out: that of the GPU"
    )
    nic: Bandwidth | None = Field(None, description="network of one machine, per direction")
    price: GpuPrice | None = Field(None, description="price of one GPU for an hour; left out: that of the GPU")
    hosts: tuple[Host, ...] = Field((), description="host names, one a machine")
    host_memory: Bytes | None = Field(None, description="main memory of one machine")
    region: Name | None = Field(None, description="region of the machines")

    @model_validator(mode="after")
    def _as_many_hosts(self) -> Nodes:
        if self.hosts and len(self.hosts) != self.count:
            context = {"count": self.count, "hosts": len(self.hosts), "help": "name each machine once, or none"}
            raise PydanticCustomError("hosts", "{count} machines, but {hosts} hosts", context)
        if len(set(self.hosts)) != len(self.hosts):
            raise PydanticCustomError("hosts", "a host is named twice", {"help": "name each machine once"})
        return self


class Within(Ir):
    """The network among machines of one `nodes` block."""

    name: Name
    bandwidth: Bandwidth = Field(description="network bandwidth between two machines, per direction")
    latency: Seconds = Field(20e-6, description="network latency, one way", json_schema_extra={"example": "20us"})


class Region(Ir):
    """A place on the map; links between regions bound what crosses them."""

    name: Name
    bandwidth: Bandwidth | None = Field(None, description="bandwidth between two machines of the region")
    latency: Seconds | None = Field(None, description="latency between two machines of the region, one way")


class Link(Ir):
    """`a <-> b`: a symmetric network link between two groups of machines (or regions)."""

    left: str
    right: str
    bandwidth: Bandwidth = Field(
        description="bandwidth between a machine of one side and one of the other, per direction"
    )
    latency: Seconds = Field(20e-6, description="latency, one way", json_schema_extra={"example": "20us"})


class Spine(Ir):
    """The spine level of a fabric; a minipod is a spine's set of leaves."""

    count: Count = Field(description="spines in all")
    port: Bandwidth | None = Field(None, description="bandwidth of a spine port")


class Leaf(Ir):
    """The leaf level of a fabric."""

    count: Count = Field(description="leaves in all")
    nodes: Count = Field(description="machines under one leaf")
    uplink: Bandwidth | None = Field(None, description="bandwidth from a leaf to the spines")


class FabricNode(Ir):
    """The machines of a fabric, all alike."""

    gpus: Gpus = Field(description="GPUs of one machine")
    interconnect: Bandwidth | None = Field(
        None, description="GPU-to-GPU link inside a machine, both directions together"
    )
    nic: Bandwidth | None = Field(None, description="network of one machine, per direction")
    price: GpuPrice | None = Field(None, description="price of one GPU for an hour")
    host_memory: Bytes | None = Field(None, description="main memory of one machine")


class Peer(Ir):
    """A row of a table of peers: a machine somewhere on the internet."""

    name: Host
    gpu: str
    gpus: Count = 1
    up: Bandwidth
    down: Bandwidth
    region: Name | None = None
    rtt: Seconds = 0.0


class Peers(FileRef):
    """A table of peers, as it was read: its rows, and the GPUs that they name."""

    gpus: tuple[Gpu, ...] = ()
    rows: tuple[Peer, ...] = ()


class PeerGroup(Nodes):
    """Equal peers as a group of machines: what each sends and takes, and its round trip to its region's network."""

    up: Bandwidth
    down: Bandwidth
    rtt: Seconds


class Cluster(Ir):
    """The machines, their GPUs, and the links among them."""

    KIND: ClassVar[str] = "cluster"

    name: str
    nodes: tuple[Nodes, ...] = Field((), description="groups of equal machines")
    within: tuple[Within, ...] = Field((), description="the network inside a group of machines")
    links: tuple[Link, ...] = Field((), description="links between groups, written `a <-> b { ... }`")
    region: tuple[Region, ...] = Field((), description="regions of a decentralised pool")
    spine: Spine | None = Field(None, description="spine level of a fabric")
    leaf: Leaf | None = Field(None, description="leaf level of a fabric")
    node: FabricNode | None = Field(None, description="the machines of a fabric")
    used: File | None = Field(None, description="inventory file that says which machines are taken")
    peers: Annotated[Peers, BeforeValidator(file_of)] | None = Field(
        None, description="table of peers: name, gpu, up, down, region, and where needed gpus, rtt"
    )
    churn: Churn | None = Field(None, description="share of peers that leave in an hour")
