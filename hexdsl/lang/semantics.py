"""Checks that need more than one field: links and flows name real ends, clusters have machines, figures agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hexdsl.ir.base import Ir
from hexdsl.ir.spec.common import IDENTIFIER
from hexdsl.ir.values import suggestion
from hexdsl.lang.complaints import NAME_HELP

if TYPE_CHECKING:
    from hexdsl.ir.spec.agentic import Agentic
    from hexdsl.ir.spec.cluster import Cluster
    from hexdsl.ir.spec.model import Model
    from hexdsl.ir.spec.serve import Serve
    from hexdsl.ir.spec.workload import Workload

LONGEST_NAME = 64


@dataclass(frozen=True)
class Problem:
    """What is wrong with a record: code, message, the path of the part that is wrong, help."""

    code: str
    message: str
    loc: tuple[str | int, ...]
    help: str


def problems(record: Ir) -> Iterator[Problem]:
    """What is wrong with a named block that its schema cannot see."""
    name = getattr(record, "name", "")
    if not re.fullmatch(IDENTIFIER, name) or len(name) > LONGEST_NAME:
        yield Problem("E105", f"`{name[:LONGEST_NAME]}` cannot be a name", ("name",), NAME_HELP)
    if check := CHECKS.get(getattr(type(record), "KIND", "")):
        yield from check(record)
    if hasattr(record, "ENDPOINTS"):
        yield from _flows(record)


def _workload(load: Workload) -> Iterator[Problem]:
    yield from _shares(("classes",), [*load.classes.values(), *(c.share for c in load.class_)])
    for name, given in (("columns", bool(load.columns)), ("speed", load.speed != 1)):
        if given and load.trace is None:
            message = f"`{name}` is about a trace, and there is none"
            yield Problem("E102", message, (name,), 'add `trace = file("NAME")`')


def _agentic(graph: Agentic) -> Iterator[Problem]:
    yield from _shares(("tenant",), [t.share or 0.0 for t in graph.tenant])


def _shares(loc: tuple[str, ...], shares: list[float]) -> Iterator[Problem]:
    if sum(shares) > 1 + 1e-9:
        yield Problem("E113", f"the shares add up to {sum(shares):.0%}", loc, "together they are at most 100%")


def _cluster(cluster: Cluster) -> Iterator[Problem]:
    if not (cluster.nodes or cluster.peers or (cluster.leaf and cluster.node)):
        help_ = "add `nodes NAME { count = 2, gpus = 8 * H100 }`"
        yield Problem("E150", f"cluster `{cluster.name}` has no machines", ("name",), help_)
    groups = {n.name for n in cluster.nodes} | {r.name for r in cluster.region}
    seen: set[frozenset[str]] = set()
    for i, link in enumerate(cluster.links):
        yield from _ends(("links", i, "left"), link.left, groups, "E130", "the cluster")
        yield from _ends(("links", i, "right"), link.right, groups, "E130", "the cluster")
        ends = frozenset((link.left, link.right))
        if len(ends) == 1:
            help_ = f"the network among its own machines is `within {link.left} {{ ... }}`"
            yield Problem("E130", f"a link joins `{link.left}` with itself", ("links", i), help_)
        elif ends in seen:
            yield Problem(
                "E021",
                f"the link between `{link.left}` and `{link.right}` is declared twice",
                ("links", i),
                "keep one of them",
            )
        seen.add(ends)
    regions = {r.name for r in cluster.region}
    for i, nodes in enumerate(cluster.nodes):
        if nodes.region is not None and regions:
            yield from _ends(("nodes", i, "region"), nodes.region, regions, "E130", "the cluster")
    unknown = (p for p in cluster.peers.rows if p.region not in (None, *regions)) if cluster.peers and regions else ()
    for peer in islice(unknown, 1):
        message = f"peer `{peer.name}` is in region `{peer.region}`, which the cluster has not"
        yield Problem("E130", message, ("peers",), suggestion(peer.region or "", regions))
    for i, within in enumerate(cluster.within):
        yield from _ends(("within", i, "name"), within.name, groups, "E130", "the cluster")


def _serve(serve: Serve) -> Iterator[Problem]:
    cluster = serve.on
    groups = {n.name for n in cluster.nodes} | {n.region for n in cluster.nodes if n.region}
    known = groups | {r.name for r in cluster.region} | ({"node"} if cluster.node else set())
    for i, phase in enumerate(serve.phase):
        for k, name in enumerate(phase.on):
            yield from _ends(("phase", i, "on", k), name, known, "E130", f"cluster `{cluster.name}`")


def _ends(loc: tuple[str | int, ...], name: str, known: set[str], code: str, owner: str) -> Iterator[Problem]:
    if name not in known:
        yield Problem(
            code, f"{owner} has no `{name}`", loc, suggestion(name, known) if known else "declare it in this block"
        )


def _model(model: Model) -> Iterator[Problem]:
    kv_heads = model.kv_heads or model.heads
    if model.heads % kv_heads:
        message = f"{model.heads} query heads cannot be shared out to {kv_heads} KV heads"
        yield Problem("E151", message, ("kv_heads",), "`kv_heads` must divide `heads`")
    if model.head_dim is None and model.hidden % model.heads:
        message = f"a width of {model.hidden} cannot be divided among {model.heads} heads"
        yield Problem("E151", message, ("heads",), "set `head_dim`")
    if model.experts_per_token and model.experts_per_token > (model.experts or 0):
        message = f"{model.experts_per_token} experts per token, but only {model.experts or 0} experts"
        yield Problem("E151", message, ("experts_per_token",), "lower `experts_per_token`, or set `experts`")
    if model.dense_layers > model.layers:
        message = f"{model.dense_layers} dense layers, but only {model.layers} layers"
        yield Problem("E151", message, ("dense_layers",), "lower `dense_layers`")


def _flows(record: Any) -> Iterator[Problem]:
    ends = set(_endpoints(record))
    owner = f"`{record.KIND} {record.name}`"
    for i, edge in enumerate(record.edges):
        yield from _ends(("edges", i, "source"), edge.source, ends, "E131", owner)
        yield from _ends(("edges", i, "target"), edge.target, ends, "E131", owner)


def _endpoints(record: Any) -> Iterator[str]:
    yield from getattr(record, "PHASES", ())
    for name in record.ENDPOINTS:
        value = getattr(record, name)
        if isinstance(value, tuple):
            yield from (v.name for v in value)
        else:
            yield name


CHECKS: Mapping[str, Callable[[Any], Iterator[Problem]]] = MappingProxyType(
    {"cluster": _cluster, "model": _model, "workload": _workload, "agentic": _agentic, "serve": _serve}
)
"""What is checked of each kind of block, by its word."""
