"""What engines and launchers want to know about the devices of a plan."""

from __future__ import annotations

from hexdsl.ir.plan import Machine, Plan, Stage
from hexdsl.ir.spec.gpu import Gpu
from hexdsl.ir.spec.target import Target

LOOPBACK = "127.0.0.1"


def gpu_kinds(plan: Plan) -> dict[str, Gpu]:
    """The GPU records of the plan's cluster, by name."""
    cluster = plan.workflow.on
    groups = (*cluster.nodes, *((cluster.node,) if cluster.node else ()))
    peers = cluster.peers.gpus if cluster.peers else ()
    return {gpu.name: gpu for gpu in (*(group.gpus.gpu for group in groups), *peers)}


def is_cpu(gpu: Gpu) -> bool:
    """Whether a kind of device is a CPU: it has neither a CUDA capability nor a 16-bit compute rate."""
    return gpu.sm is None and gpu.bf16 is None and gpu.fp16 is None


def stages(plan: Plan) -> tuple[Stage, ...]:
    """The stages of all replicas."""
    return tuple(stage for replica in plan.replicas for stage in replica.stages)


def layers_of(stage: Stage) -> str:
    """`layers 0 to 13`, or `layer 3`."""
    first, end = stage.layers
    return f"layer {first}" if end - first == 1 else f"layers {first} to {end - 1}"


def machines_in_use(plan: Plan) -> tuple[Machine, ...]:
    """The machines on which the plan puts something, in the plan's order."""
    used = {stage.machine for stage in stages(plan)}
    return tuple(machine for machine in plan.machines if machine.id in used)


def address(machine: Machine, target: Target) -> str:
    """Where the other processes reach those of a machine."""
    return LOOPBACK if target.launcher.kind == "local" else machine.host
