"""What a serving spec may say that is checked, but that planning does not look at yet: nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Iterator

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.serve import OnChange, Serve, Weighted
from hexdsl.ir.spec.workload import Z95, Empirical, Recorded, Workload
from hexdsl.passes.serve.rules import unplanned as refused

CODE = "W001"


def unplanned(plan: Plan) -> Plan:
    """Notes each part of the spec that is checked but not planned yet, and refuses those that no plan may leave out.

    Needs nothing, gives `scope`.  Says what was taken from a trace, too.  Raises NoPlanError: P004 for rules of request
    classes and for a trace that was not read, P008 for a cluster of which a file says what is taken.
    """
    serve = plan.workflow
    assert isinstance(serve, Serve)
    _refuse(serve)
    found = (*_serve(serve), *_workload(serve.workload), *_cluster(serve.on), *_model(serve.model))
    said = (f"{CODE}: {what} is checked, but not planned yet: {so}" for what, so in found)
    return plan.with_(notes=(*plan.notes, *said, *_taken(serve.workload)))


def _refuse(serve: Serve) -> None:
    work = serve.workload
    for rule in (r for c in (work.class_ if work else ()) for r in c.rules):
        raise refused(
            rule, "rules of a request class are not planned yet; write it in the `serve` block, for all requests"
        )
    if work is not None and work.trace is not None and not _was_read(work):
        message = (
            f"nothing was read from `{work.trace.path}`, the trace of `{work.name}`: a machine-made spec holds the "
        )
        message += "figures of its trace, as `hexc schema --json` says"
        help_ = "write the spec in the language, or leave the trace out"
        raise NoPlanError([Diagnostic("P004", message, (), help_)])
    if serve.on.used is not None:
        message = f"machines that `{serve.on.used.path}` takes out of cluster `{serve.on.name}` are not planned yet"
        raise NoPlanError([Diagnostic("P008", message, (), "write the machines that are free as `nodes NAME { ... }`")])


Finding = tuple[str, str]
"""What is not planned, and what is done instead."""


def _serve(serve: Serve) -> Iterator[Finding]:
    for edge in serve.edges:
        if edge.kv_transfer == "blocking":
            yield "`kv_transfer = blocking`", "the engine decides when a KV cache travels"
    if serve.think is not None:
        yield "`think`", "each request is counted as one answer"
    if not isinstance(serve.routing, Weighted) and serve.on.peers is None:
        yield f"`routing = {serve.routing.kind}`", "requests are shared out by weights"
    if serve.on_change != OnChange():
        yield "`on_change`", "the plan is for the machines and the load as they are written"


def _workload(work: Workload | None) -> Iterator[Finding]:
    if work is None:
        return
    if work.classes or work.class_:
        yield "the request classes of a workload", "all requests have the workload's own lengths"
    if isinstance(work.prompt, Empirical) and work.prompt.repeated:
        share = f"{work.prompt.repeated:.0%} of the prompts' tokens began an earlier request"
        yield "the sharing of prefixes in a trace", f"{share}, and the plan computes them again"
    if work.clients is not None:
        yield "`clients`", "arrivals count, or else what the machines can serve"


def _was_read(work: Workload) -> bool:
    lengths = {"prompt": work.prompt, "output": work.output}
    return all(isinstance(v, Empirical) or name in work.model_fields_set for name, v in lengths.items())


def _taken(work: Workload | None) -> Iterator[str]:
    """What a trace gave, and what is written beside it and so counts instead."""
    if work is None or work.trace is None:
        return
    parts = {"arrivals": work.arrivals, "prompts": work.prompt, "answers": work.output}
    taken = [f"{what} {_figures(p)}" for what, p in parts.items() if isinstance(p, (Recorded, Empirical))]
    own = [what for what, p in parts.items() if p is not None and not isinstance(p, (Recorded, Empirical))]
    if taken:
        yield f"from the trace `{work.trace.path}`: {'; '.join(taken)}"
    if own:
        yield f"{' and '.join(own)}: what is written beside the trace counts, not what `{work.trace.path}` holds"


def _figures(part: Recorded | Empirical) -> str:
    if isinstance(part, Recorded):
        return f"{part.rate:.4g}req/s, gaps with {part.cv:.3g} times their mean as standard deviation"
    low, high = part.quantile(0.0), part.quantile(Z95)
    return f"of {part.mean:,.0f} tokens on average (p50 {low:,.0f}, p95 {high:,.0f}, longest {part.quantiles[-1]:,.0f})"


def _cluster(cluster: Cluster) -> Iterator[Finding]:
    if cluster.churn is not None and cluster.peers is None:
        yield "`churn`", "the plan is for machines that stay"


def _model(model: Model) -> Iterator[Finding]:
    if model.attention.kind != "dense":
        yield f"`attention = {model.attention.kind}`", "attention is priced as dense"
