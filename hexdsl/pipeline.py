"""The order of passes, once, for every workflow.  Whoever wants to see the compiler reads this file."""

from __future__ import annotations

from collections.abc import Callable

from hexdsl.ir.diagnostic import Diagnostic, NoPlanError, UsageError
from hexdsl.ir.front import Front
from hexdsl.ir.plan import Margin, Plan
from hexdsl.ir.spec import Spec, Workflow
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.values import suggestion
from hexdsl.passes.base import After, Pass, run_passes
from hexdsl.passes.inventory import inventory
from hexdsl.passes.pool.chains import chains
from hexdsl.passes.precision import precision
from hexdsl.passes.serve.apart import apart_or_together
from hexdsl.passes.serve.front import front
from hexdsl.passes.serve.groups import groups
from hexdsl.passes.serve.margins import Search
from hexdsl.passes.serve.predict import predict
from hexdsl.passes.serve.price import price
from hexdsl.passes.serve.route import route
from hexdsl.passes.serve.simulate import simulate
from hexdsl.passes.serve.unplanned import unplanned
from hexdsl.passes.serve.verify import verify
from hexdsl.version import __version__

SERVE = (
    Pass(unplanned, gives=("scope",)),
    Pass(inventory, gives=("machines",)),
    Pass(precision, gives=("precision",)),
    Pass(groups, needs=("machines", "precision"), gives=("replicas",)),
    Pass(route, needs=("replicas",), gives=("routes",)),
    Pass(chains, needs=("replicas", "routes"), gives=("chains",)),
    Pass(price, needs=("replicas",), gives=("cost",)),
    Pass(predict, needs=("replicas", "routes", "cost"), gives=("predictions", "rules")),
    Pass(verify, needs=("replicas", "routes", "predictions"), gives=("verified",)),
    Pass(simulate, needs=("routes", "predictions"), gives=("simulation",)),
)

PIPELINES: dict[str, tuple[Pass, ...]] = {"serve": SERVE}
"""Workflow kind to its passes.  Kinds that are missing are parsed and checked, but not planned yet."""


def plan_spec(spec: Spec, workflow: str | None, after: After) -> Plan:
    """The plan of one workflow of a spec: the passes in order, again with margins while its simulation breaks a rule.

    Raises NoPlanError (P001 to P014) or UsageError (P005).
    """
    return plan_from(start(spec, choose(spec, workflow)), after)


def plan_from(first: Plan, after: After) -> Plan:
    """What an empty plan grows into.  Raises NoPlanError (P001 to P014)."""
    passes = passes_of(first.workflow)

    def search_from(plan: Plan) -> Search:
        return lambda margins: run_passes(passes, plan.with_(margins=margins), after)

    return apart_or_together(first, search_from)


def plan_front(spec: Spec, workflow: str | None, points: int, after: After, tell: Callable[[str], None]) -> Front:
    """The frontier of cost, throughput and latency of a `serve` workflow, from about so many plans.

    Raises NoPlanError or UsageError (P005).
    """
    chosen = choose(spec, workflow)
    passes = [p for p in passes_of(chosen) if p.run is not simulate]

    def planner(changed: Serve, margins: tuple[Margin, ...]) -> Plan:
        return run_passes(passes, start(spec, changed).with_(margins=margins), after)

    return front(start(spec, chosen), planner, points, tell)


def passes_of(workflow: Workflow) -> tuple[Pass, ...]:
    """The passes of a workflow, in order.  Raises NoPlanError (P003) where its kind is not planned yet."""
    passes = PIPELINES.get(kind_of(workflow))
    if passes is None:
        planned = ", ".join(f"`{k}`" for k in PIPELINES)
        message = f"`{kind_of(workflow)}` workflows are checked, but not planned yet (`{workflow.name}`)"
        raise NoPlanError([Diagnostic("P003", message, (), f"planned today: {planned}")])
    return passes


def start(spec: Spec, workflow: Workflow) -> Plan:
    """The empty plan of a workflow: what the first pass is given."""
    return Plan(
        hexc_version=__version__,
        spec_digest=spec.digest(),
        name=workflow.name,
        workflow=workflow,
        defaults=tuple(d for d in spec.defaults if workflow.name in d.place.split() or d.place.startswith("workload")),
    )


def choose(spec: Spec, name: str | None) -> Workflow:
    """The workflow that is meant.  Raises UsageError where that is not clear."""
    names = [w.name for w in spec.workflows]
    if not names:
        help_ = "add a workflow block such as `serve NAME { model = ..., on = ... }`"
        raise UsageError([Diagnostic("P007", f"`{spec.name}` declares no workflow", (), help_)])
    if name is None and len(names) > 1:
        help_ = "choose one: " + ", ".join(f"`--workflow {n}`" for n in names)
        raise UsageError([Diagnostic("P005", f"`{spec.name}` declares {len(names)} workflows", (), help_)])
    found = next((w for w in spec.workflows if name in (None, w.name)), None)
    if found is None:
        raise UsageError([Diagnostic("P005", f"there is no workflow `{name}`", (), suggestion(str(name), names))])
    return found


def kind_of(workflow: Workflow) -> str:
    """`serve`, `cascade`, ..."""
    return type(workflow).KIND
