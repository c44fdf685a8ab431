"""The links between peers: what one sends and the other takes, and the way between their regions.

A link carries the least of the sender's `up`, the taker's `down` and the bandwidth between the regions; half of each
peer's round trip and the latency between the regions add up.  Regions that have no link of their own reach each other
over others: the way with the least latency, as wide as its narrowest link.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from hexdsl.costs.gpu import Link
from hexdsl.ir.spec.cluster import Cluster, Nodes, PeerGroup

NEAR_S = 0.005
"""One way within a region that says no latency: half of the mean round trip in Parallax (arXiv 2509.26182)."""


@dataclass(frozen=True, slots=True)
class End:
    """A group of machines: bytes/s that one of them sends and takes, and seconds to its region's network."""

    region: str
    up: float
    down: float
    latency_s: float


@dataclass(frozen=True)
class Internet:
    """Ends by group, and the links between regions in both orders."""

    ends: Mapping[str, End]
    between: Mapping[tuple[str, str], Link]

    def link(self, left: str, right: str) -> Link | None:
        """The link from a machine of one group to one of another, or of the same; None where there is no way."""
        a, b = self.ends.get(left), self.ends.get(right)
        way = self.between.get((a.region, b.region)) if a and b else None
        if a is None or b is None or way is None:
            return None
        return Link(min(a.up, b.down, way.bandwidth), a.latency_s + b.latency_s + way.latency_s)


def internet_of(cluster: Cluster, groups: Sequence[Nodes]) -> Internet:
    """The internet of a cluster with peers; other machines are on it where they have a region and a network card."""
    ends = {g.name: end for g in groups if (end := _end(g)) is not None}
    regions = sorted({end.region for end in ends.values()} | {r.name for r in cluster.region})
    return Internet(ends, _between(cluster, regions))


def assumed(cluster: Cluster) -> str:
    """What is taken for granted about regions that say no latency, for the reader of a plan; empty where none is."""
    used = {peer.region or "" for peer in cluster.peers.rows} if cluster.peers else set()
    silent = sorted(used - {r.name for r in cluster.region if r.latency is not None})
    if not silent:
        return ""
    where = ", ".join(f"`{name}`" if name else "no region" for name in silent)
    pin = f"region {silent[-1] or 'NAME'} {{ latency = {1e3 * NEAR_S:g}ms }}"
    return f"peers of {where} are taken to be {1e3 * NEAR_S:g} ms from each other, one way: pin it with `{pin}`"


def _end(group: Nodes) -> End | None:
    if isinstance(group, PeerGroup):
        return End(group.region or "", group.up, group.down, group.rtt / 2)
    if group.region is None or group.nic is None:
        return None
    return End(group.region, group.nic, group.nic, 0.0)


def _between(cluster: Cluster, regions: Sequence[str]) -> dict[tuple[str, str], Link]:
    graph = nx.Graph()
    graph.add_nodes_from(regions)
    for link in cluster.links:
        if {link.left, link.right} <= set(regions):
            graph.add_edge(link.left, link.right, latency=link.latency, bandwidth=link.bandwidth)
    found: dict[tuple[str, str], Link] = {}
    for left, paths in nx.all_pairs_dijkstra_path(graph, weight="latency"):
        for right, path in paths.items():
            edges = [graph.edges[pair] for pair in nx.utils.pairwise(path)]
            if edges:
                found[left, right] = Link(min(e["bandwidth"] for e in edges), sum(e["latency"] for e in edges))
    inside = {r.name: r for r in cluster.region}
    for name in regions:
        region = inside.get(name)
        wide = math.inf if region is None or region.bandwidth is None else region.bandwidth
        far = NEAR_S if region is None or region.latency is None else region.latency
        found[name, name] = Link(wide, far)
    return found
