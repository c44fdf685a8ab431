"""What the serving planner is given: classes of machines, the model's costs, the load, and how far it may go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu
from hexdsl.costs.memory import Engine
from hexdsl.costs.serving import Load
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.cluster import Nodes
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.workload import Workload
from hexdsl.passes.inventory import groups_of
from hexdsl.passes.serve.adapter import (
    Network,
    arch_of,
    arrivals_of,
    engine_of,
    formats_of,
    gpu_of,
    load_of,
    network_of,
    tp_degrees,
    workload_of,
)

SMALL = 8
"""Up to so many GPUs every shape of replica is enumerated, and the plan is exact."""


BLOCK = 16
"""Tokens in a block of the KV cache."""


@dataclass(frozen=True)
class NodeClass:
    """Equal machines: `count` of them with `size` GPUs each."""

    name: str
    count: int
    size: int
    gpu: Gpu
    formats: Formats
    usd_per_h: float | None
    watts: float | None
    degrees: tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """One model on some machines under a load."""

    serve: Serve
    classes: tuple[NodeClass, ...]
    network: Network
    arch: Arch
    engine: Engine
    load: Load
    workload: Workload
    arrivals: float | None
    context: int

    @property
    def devices(self) -> int:
        return sum(c.count * c.size for c in self.classes)

    @property
    def small(self) -> bool:
        return self.devices <= SMALL

    @property
    def output(self) -> float:
        """Mean tokens of an answer."""
        return float(np.asarray(self.load.output))

    @property
    def tokens_per_request(self) -> float:
        """KV tokens set aside for a running request: its whole prompt and answer, on average, within the context."""
        return min(float(np.asarray(self.load.prompt)) + self.output, float(self.context))


def problem_of(plan: Plan) -> Problem:
    """The serving problem of a plan whose inventory is known."""
    serve = plan.workflow
    assert isinstance(serve, Serve)
    arch = arch_of(serve.model)
    return Problem(
        serve=serve,
        classes=tuple(_class(group, serve, arch) for group in groups_of(serve.on)),
        network=network_of(serve.on),
        arch=arch,
        engine=engine_of(serve),
        load=load_of(serve),
        workload=workload_of(serve),
        arrivals=arrivals_of(serve),
        context=plan.context or context_of(serve),
    )


def _class(group: Nodes, serve: Serve, arch: Arch) -> NodeClass:
    price = group.price if group.price is not None else group.gpus.gpu.price
    return NodeClass(
        name=group.name,
        count=group.count,
        size=group.gpus.count,
        gpu=gpu_of(group.gpus.gpu),
        formats=formats_of(group.gpus.gpu, serve.model),
        usd_per_h=None if price is None else price * 3600,
        watts=group.gpus.gpu.power,
        degrees=tp_degrees(arch, group.gpus.count),
    )


CONTEXT_STEP = 256
"""A context that is not written is a multiple of so many tokens."""


def context_of(serve: Serve) -> int:
    """The longest prompt and answer together: as written, else 99.9 % of the load's, at most what the model allows."""
    if serve.context is not None:
        return serve.context
    work = workload_of(serve)
    needed = work.prompt.quantile(3.09) + work.output.quantile(3.09)
    rounded = -(-int(needed + 1) // CONTEXT_STEP) * CONTEXT_STEP
    return min(rounded, serve.model.context or rounded)
