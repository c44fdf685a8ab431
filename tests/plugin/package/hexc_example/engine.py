"""`echo`: a web server for each replica that answers with the words it was sent; it tries launchers without weights."""

from __future__ import annotations

from pathlib import Path

from hexdsl.ir.launch import Launch, Port, Process, Ready
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.base import Reason


def supports(plan: Plan, target: Target) -> tuple[Reason, ...]:
    """Every reason against the plan."""
    return () if plan.replicas else (Reason("the plan has no replicas"),)


def lower(plan: Plan, target: Target, folder: Path) -> Launch:
    """One process for each replica, on the machine of its first stage."""
    processes = tuple(process(plan, target, index) for index in range(len(plan.replicas)))
    return Launch(name=plan.name, engine=target.name, launcher=target.launcher.kind, processes=processes)


def process(plan: Plan, target: Target, index: int) -> Process:
    replica, port = plan.replicas[index], target.ports + index
    return Process(
        name=f"echo-{index}",
        role="worker",
        host=plan.machine(replica.stages[0].machine).host,
        rank=index,
        argv=("python", "-m", "hexc_example.server", target.host, str(port)),
        ports=(Port(host=target.host, port=port, use=f"requests to {replica.name}"),),
        ready=Ready(url=f"http://{target.host}:{port}/health", timeout_s=60),
        comment=f"stands in for {replica.name} on {', '.join(replica.devices)}",
    )
