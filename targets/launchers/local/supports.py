"""Which plans the `local` launcher can start."""

from __future__ import annotations

from hexdsl.ir.plan import Machine, Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.base import Reason
from hexdsl.targets.devices import gpu_kinds, is_cpu, machines_in_use


def supports(plan: Plan, target: Target) -> tuple[Reason, ...]:
    """One machine always; several only if this one can stand for them all: CPUs, and no `hosts` that say otherwise."""
    machines = machines_in_use(plan)
    if len(machines) < 2 or _can_be_emulated(plan, machines):
        return ()
    names = ", ".join(f"`{machine.id}`" for machine in machines)
    help_ = "keep the plan on one machine; several are emulated only where they are CPUs without `hosts`"
    return (Reason(f"it starts processes on one machine, and the plan uses {len(machines)}: {names}", help_),)


def _can_be_emulated(plan: Plan, machines: tuple[Machine, ...]) -> bool:
    named = {group.name for group in plan.workflow.on.nodes if group.hosts}
    kinds = gpu_kinds(plan)
    return all(m.group not in named and all(is_cpu(kinds[d.gpu]) for d in m.devices) for m in machines)
