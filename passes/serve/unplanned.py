"""What a serving spec may say that is checked, but that planning does not look at yet: nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Iterator

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.cluster import Cluster
from hexdsl.ir.spec.model import Model
from hexdsl.ir.spec.serve import OnChange, Serve, Weighted
from hexdsl.ir.spec.workload import Workload
from hexdsl.passes.serve.rules import unplanned as refused

CODE = "W001"


def unplanned(plan: Plan) -> Plan:
    """Notes each part of the spec that is checked but not planned yet, and refuses those that no plan may leave out.

    Needs nothing, gives `scope`.  Raises NoPlanError: P004 for rules of request classes and for lengths that only a
    trace says, P008 for a cluster of which a file says what is taken.
    """
    serve = plan.workflow
    assert isinstance(serve, Serve)
    _refuse(serve)
    found = (*_serve(serve), *_workload(serve.workload), *_cluster(serve.on), *_model(serve.model))
    return plan.with_(
        notes=(*plan.notes, *(f"{CODE}: {what} is checked, but not planned yet: {so}" for what, so in found))
    )


def _refuse(serve: Serve) -> None:
    work = serve.workload
    for rule in (r for c in (work.class_ if work else ()) for r in c.rules):
        raise refused(
            rule, "rules of a request class are not planned yet; write it in the `serve` block, for all requests"
        )
    if work is not None and work.trace is not None and not {"prompt", "output"} <= work.model_fields_set:
        message = (
            f"`{work.name}` takes its lengths from `{work.trace.path}`, and traces are checked, but not planned yet"
        )
        help_ = "write `prompt = ...` and `output = ...` beside it, such as `lognormal(median = 900, p95 = 4000)`"
        raise NoPlanError([Diagnostic("P004", message, (), help_)])
    if serve.on.used is not None:
        message = f"machines that `{serve.on.used.path}` takes out of cluster `{serve.on.name}` are not planned yet"
        raise NoPlanError([Diagnostic("P008", message, (), "write the machines that are free as `nodes NAME { ... }`")])


Finding = tuple[str, str]
"""What is not planned, and what is done instead."""


def _serve(serve: Serve) -> Iterator[Finding]:
    for phase in serve.phase:
        yield (
            f"`phase {phase.name}`",
            "every replica runs both phases, and the phase's rules hold for the whole replica",
        )
    for edge in serve.edges:
        yield f"`{edge.source} -> {edge.target}`", "no KV cache travels, since both phases run on one replica"
    if serve.think is not None:
        yield "`think`", "each request is counted as one answer"
    if not isinstance(serve.routing, Weighted):
        yield f"`routing = {serve.routing.kind}`", "requests are shared out by weights"
    if serve.on_change != OnChange():
        yield "`on_change`", "the plan is for the machines and the load as they are written"


def _workload(work: Workload | None) -> Iterator[Finding]:
    if work is None:
        return
    if work.classes or work.class_:
        yield "the request classes of a workload", "all requests have the workload's own lengths"
    if work.trace is not None:
        yield "`trace`", "the distributions that are written beside it count"
    if work.clients is not None:
        yield "`clients`", "arrivals count, or else what the machines can serve"
    if work.arrivals is not None and work.arrivals.kind in ("gamma", "weibull"):
        yield f"`{work.arrivals.kind}` arrivals", "queues are those of Poisson arrivals of the same rate"


def _cluster(cluster: Cluster) -> Iterator[Finding]:
    if cluster.churn is not None:
        yield "`churn`", "the plan is for machines that stay"


def _model(model: Model) -> Iterator[Finding]:
    if model.attention.kind != "dense":
        yield f"`attention = {model.attention.kind}`", "attention is priced as dense"
