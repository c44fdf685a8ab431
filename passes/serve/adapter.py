"""From the nouns of a spec to those of the cost model: conversion only, no decision."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import networkx as nx

from hexdsl.costs.arch import Arch, Experts, Latent, tp_divides
from hexdsl.costs.gpu import Formats, Link
from hexdsl.costs.gpu import Gpu as GpuCost
from hexdsl.costs.memory import Engine
from hexdsl.costs.profile import with_profile
from hexdsl.costs.serving import Load
from hexdsl.ir.spec.cluster import Cluster, Nodes, PeerGroup
from hexdsl.ir.spec.gpu import FORMATS, Gpu
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.workload import Recorded, Workload
from hexdsl.passes.inventory import groups_of
from hexdsl.passes.pool.wires import Internet, internet_of
from hexdsl.passes.precision import formats_on

STEP_TOKENS = 2048
"""Prompt tokens that an engine takes into one step (chunked prefill)."""


def gpu_of(gpu: Gpu) -> GpuCost:
    """A GPU as the cost model wants it."""
    flops = {f: rate for f in FORMATS if (rate := getattr(gpu, f)) is not None}
    made = GpuCost(gpu.name, gpu.memory, gpu.bandwidth, flops, gpu.usable, gpu.reserve, like=gpu.like or "")
    return with_profile(made, gpu.profile)


def arch_of(model: Model) -> Arch:
    """An architecture as the cost model wants it: with latent attention, `head_dim` leaves out the rotary part."""
    head = model.head_dim or model.hidden // model.heads
    rope = 0 if model.kv_lora_rank is None else model.rope_head_dim or 64
    return Arch(
        layers=model.layers,
        hidden=model.hidden,
        heads=model.heads,
        kv_heads=model.kv_heads or model.heads,
        head_dim=head - rope,
        ffn=model.ffn,
        vocab=model.vocab,
        tied=model.tied,
        max_context=model.context,
        experts=_experts(model),
        latent=_latent(model),
    )


def _experts(model: Model) -> Experts | None:
    if model.experts is None:
        return None
    per_token = model.experts_per_token or 1
    return Experts(model.experts, per_token, model.expert_ffn or model.ffn, model.shared_experts, model.dense_layers)


def _latent(model: Model) -> Latent | None:
    if model.kv_lora_rank is None:
        return None
    head = model.head_dim or model.hidden // model.heads
    return Latent(model.kv_lora_rank, model.rope_head_dim or 64, model.v_head_dim or head, model.q_lora_rank)


def formats_of(gpu: Gpu, model: Model) -> Formats:
    """The number formats of a model on a GPU, as the `precision` pass settles them."""
    found = formats_on(gpu, model)
    return Formats(found.weights, found.compute, found.kv, model.weights.group)


def engine_of(serve: Serve) -> Engine:
    """The limits of the serving engine."""
    return Engine(serve.utilization, STEP_TOKENS, serve.max_batch)


def load_of(serve: Serve) -> Load:
    """Mean prompt and output lengths, and how much they and the gaps between arrivals vary."""
    work = workload_of(serve)
    arrivals = work.arrivals
    load = Load(work.prompt.mean, max(1.0, work.output.mean), cv_prompt=work.prompt.cv, cv_output=work.output.cv)
    if arrivals is None:
        return load
    cv = arrivals.queued if isinstance(arrivals, Recorded) else arrivals.cv
    return replace(load, cv=cv, arrivals=arrivals.rate)


def workload_of(serve: Serve) -> Workload:
    """The load, or the default one."""
    return serve.workload or Workload(name="default")


def arrivals_of(serve: Serve) -> float | None:
    """Requests per second that arrive, None where the load is not limited."""
    arrivals = workload_of(serve).arrivals
    return None if arrivals is None else arrivals.rate


@dataclass(frozen=True)
class Network:
    """Links by group of machines: inside a machine, among the machines of a group, between groups."""

    inside: dict[str, Link | None]
    between: dict[tuple[str, str], Link]
    internet: Internet | None = None

    def link(self, left: str, right: str) -> Link | None:
        """The link between two different machines of these groups, None where there is no way."""
        found = self.between.get((left, right))
        return self.internet.link(left, right) if found is None and self.internet is not None else found

    def with_return(self, hops: tuple[Link | None, ...], first: str, last: str) -> tuple[Link | None, ...]:
        """The hops of a pipeline; over the internet the last one also counts how late a token comes back to the first.

        Elsewhere that is too short to count.
        """
        back = None if self.internet is None or not hops else self.internet.link(last, first)
        end = hops[-1] if hops else None
        if back is None or end is None:
            return hops
        return (*hops[:-1], replace(end, latency_s=end.latency_s + back.latency_s))


def network_of(cluster: Cluster) -> Network:
    """The network of a cluster.

    Groups without a direct link reach each other over others: the path with the least latency, at the bandwidth of
    its narrowest link.  Machines of one group use `within`, else their network card, else their region's network,
    else there is no way.  Peers are joined by the internet (`hexdsl.passes.pool.wires`).
    """
    everyone = groups_of(cluster)
    groups = tuple(g for g in everyone if not isinstance(g, PeerGroup))
    direct = _direct(cluster)
    graph = nx.Graph()
    graph.add_nodes_from(n.name for n in groups)
    for (left, right), link in sorted(direct.items()):
        graph.add_edge(left, right, latency=link.latency_s, link=link)
    between = {pair: link for pair, link in _paths(graph, direct) if pair[0] != pair[1]}
    for (left, right), link in direct.items():
        between |= {(left, right): link, (right, left): link}
    within = ((n, _within(cluster, n) or direct.get((n.name, n.name))) for n in groups)
    between |= {(n.name, n.name): link for n, link in within if link is not None}
    internet = None if cluster.peers is None else internet_of(cluster, everyone)
    return Network({n.name: _inside(n) for n in everyone}, between, internet)


def _paths(graph: nx.Graph, direct: Collection[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], Link]]:
    """The quickest ways from groups that have no direct link to some other."""
    for left in sorted(graph):
        if all((min(left, g), max(left, g)) in direct for g in graph if g != left):
            continue
        for right, path in sorted(nx.single_source_dijkstra_path(graph, left, weight="latency").items()):
            hops = [graph.edges[a, b]["link"] for a, b in pairwise(path)]
            if hops:
                yield (left, right), Link(min(h.bandwidth for h in hops), sum(h.latency_s for h in hops))


def _direct(cluster: Cluster) -> dict[tuple[str, str], Link]:
    """The links that are written, by pair of groups in order; a region stands for its groups.  The widest counts."""
    groups = [g for g in groups_of(cluster) if not isinstance(g, PeerGroup)]
    found: dict[tuple[str, str], Link] = {}
    for left, right, link in _written(cluster):
        for a in (g.name for g in groups if left in (g.name, g.region)):
            for b in (g.name for g in groups if right in (g.name, g.region)):
                pair = (min(a, b), max(a, b))
                known = found.get(pair)
                if known is None or link.bandwidth > known.bandwidth:
                    found[pair] = link
    return found


def _written(cluster: Cluster) -> Iterator[tuple[str, str, Link]]:
    for link in cluster.links:
        yield link.left, link.right, Link(link.bandwidth, link.latency)
    for region in cluster.region:
        if region.bandwidth is not None:
            yield (
                region.name,
                region.name,
                Link(region.bandwidth, LATENCY if region.latency is None else region.latency),
            )


LATENCY = 20e-6
"""One way over a network whose latency is not said."""


def _within(cluster: Cluster, group: Nodes) -> Link | None:
    found = next((w for w in cluster.within if w.name == group.name), None)
    if found is not None:
        return Link(found.bandwidth, found.latency)
    return Link(group.nic, LATENCY) if group.nic is not None else None


def _inside(group: Nodes) -> Link | None:
    total = group.interconnect or group.gpus.gpu.link
    # Datasheets give both directions together; a ring or a transfer uses one.
    return Link(total / 2) if total is not None else None


def tp_degrees(arch: Arch, most: int) -> tuple[int, ...]:
    """Tensor-parallel degrees up to `most` that an engine can split this model into."""
    return tuple(t for t in range(1, most + 1) if tp_divides(arch, t))
