"""Checks that need more than one field: links and flows name real ends, clusters have machines, figures agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hexdsl.ir.base import Ir
from hexdsl.ir.diagnostic import Span
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.model import Model
from hexdsl.ir.values import suggestion
from hexdsl.lang import nodes
from hexdsl.lang.scope import Entry, Report


def check_meaning(record: Ir, entry: Entry, report: Report) -> None:
    """Reports what is wrong with a record that its schema cannot see."""
    if isinstance(record, Cluster):
        _cluster(record, entry, report)
    if isinstance(record, Model):
        _model(record, entry, report)
    if hasattr(record, "ENDPOINTS"):
        _flows(record, entry, report)


def _cluster(cluster: Cluster, entry: Entry, report: Report) -> None:
    if not (cluster.nodes or cluster.peers or (cluster.leaf and cluster.node)):
        help_ = "add `nodes NAME { count = 2, gpus = 8 * H100 }`"
        report.error("E150", f"cluster `{cluster.name}` has no machines", entry.span, help_)
    groups = {n.name for n in cluster.nodes} | {r.name for r in cluster.region}
    for node in _statements(entry, nodes.Link):
        for end in (node.left, node.right):
            if isinstance(end, nodes.Name) and end.name not in groups:
                report.error("E130", f"the cluster has no `{end.name}`", end.span, _known(end.name, groups))
    for node in _statements(entry, nodes.Block):
        label = node.labels[0] if node.kind == "within" and node.labels else None
        if isinstance(label, nodes.Name) and label.name not in groups:
            report.error("E130", f"the cluster has no `{label.name}`", label.span, _known(label.name, groups))


def _model(model: Model, entry: Entry, report: Report) -> None:
    kv_heads = model.kv_heads or model.heads
    if model.heads % kv_heads:
        message = f"{model.heads} query heads cannot be shared out to {kv_heads} KV heads"
        report.error("E151", message, _attr_span(entry, "kv_heads"), "`kv_heads` must divide `heads`")
    if model.head_dim is None and model.hidden % model.heads:
        message = f"a width of {model.hidden} cannot be divided among {model.heads} heads"
        report.error("E151", message, _attr_span(entry, "heads"), "set `head_dim`")
    if model.experts and (model.experts_per_token or 1) > model.experts:
        message = f"{model.experts_per_token} experts per token, but only {model.experts} experts"
        report.error("E151", message, _attr_span(entry, "experts_per_token"), "lower `experts_per_token`")


def _flows(record: Ir, entry: Entry, report: Report) -> None:
    ends = set(_endpoints(record))
    for node in _statements(entry, nodes.Flow):
        for step in node.steps:
            if isinstance(step, nodes.Name) and step.name not in ends:
                report.error("E131", f"there is no `{step.name}` here", step.span, _known(step.name, ends))


def _endpoints(record: Any) -> Iterator[str]:
    yield from getattr(record, "PHASES", ())
    for name in record.ENDPOINTS:
        value = getattr(record, name)
        if isinstance(value, tuple):
            yield from (v.name for v in value)
        else:
            yield name


def _known(name: str, known: set[str]) -> str:
    return suggestion(name, known) if known else "declare it in this block"


def _statements(entry: Entry, kind: Callable[..., Any]) -> Iterator[Any]:
    assert isinstance(entry.node, nodes.Block)
    return (s for s in entry.node.body.statements if isinstance(s, kind))  # type: ignore[arg-type]


def _attr_span(entry: Entry, name: str) -> Span:
    return next((s.name_span for s in _statements(entry, nodes.Attr) if s.name == name), entry.span)
