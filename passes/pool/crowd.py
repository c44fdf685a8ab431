"""Peers as groups of equal machines: what keeps planning quick where thousands of them differ a little.

Peers with the same GPUs, region, bandwidths and round trip are one group.  Where that makes more than `MOST_GROUPS`,
figures are told apart by powers of 2, 4 or 16 only, or not at all; a group then has those of its worst peer, so that no
plan counts on more than there is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from hexdsl.ir.spec.cluster import Cluster, GpuSet, Peer, PeerGroup, Peers

MOST_GROUPS = 64
Ratios = tuple[float, float, float]

EXACT: Ratios = (1.0, 1.0, 1.0)
COARSER: tuple[Ratios, ...] = ((2.0, 2.0, 2.0), (4.0, 4.0, 4.0), (4.0, 16.0, math.inf), (16.0, math.inf, math.inf))
"""Ratios within which what peers send, what they take and their round trips are alike, tried in turn.

The last ones are taken in any case.
"""

Key = tuple[str, int, str, float, float, float]


def groups_of_peers(cluster: Cluster) -> tuple[PeerGroup, ...]:
    """The peers of a cluster by group, none where it has none."""
    peers = cluster.peers
    return () if peers is None else tuple(_groups(peers, _members(peers.rows)))


def told_apart(cluster: Cluster) -> str:
    """How finely the peers are told apart, for the reader of a plan; empty where no two that differ are grouped."""
    if cluster.peers is None:
        return ""
    rows = cluster.peers.rows
    found = len(_members(rows))
    if found == len({_key(peer, EXACT) for peer in rows}):
        return ""
    return f"{len(rows):,} peers are counted in {found} groups; a group's links are those of its slowest peer"


def _members(rows: Sequence[Peer]) -> list[list[Peer]]:
    for ratios in (EXACT, *COARSER):
        found: dict[Key, list[Peer]] = {}
        for peer in rows:
            found.setdefault(_key(peer, ratios), []).append(peer)
        if len(found) <= MOST_GROUPS:
            break
    return [found[key] for key in sorted(found)]


def _key(peer: Peer, ratios: Ratios) -> Key:
    up, down, rtt = map(_bucket, (peer.up, peer.down, peer.rtt), ratios)
    return (peer.gpu, peer.gpus, peer.region or "", up, down, rtt)


def _bucket(value: float, ratio: float) -> float:
    if ratio == 1 or value <= 0:
        return value
    return float(math.floor(math.log(value) / math.log(ratio) + 1e-9)) if math.isfinite(ratio) else 0.0


def _groups(peers: Peers, members: Sequence[Sequence[Peer]]) -> Iterator[PeerGroup]:
    gpus, used = {g.name: g for g in peers.gpus}, Counter[str]()
    for some in members:
        first = some[0]
        stem = "_".join(part for part in (first.gpu, first.region) if part)[:50]
        used[stem] += 1
        yield PeerGroup(
            name=stem if used[stem] == 1 else f"{stem}_{used[stem]}",
            count=len(some),
            gpus=GpuSet(count=first.gpus, gpu=gpus[first.gpu]),
            hosts=tuple(p.name for p in some),
            region=first.region,
            up=min(p.up for p in some),
            down=min(p.down for p in some),
            rtt=max(p.rtt for p in some),
        )
