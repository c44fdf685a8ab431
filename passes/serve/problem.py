"""What the serving planner is given: classes of machines, the model's costs, the load, and how far it may go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu
from hexdsl.costs.memory import Engine
from hexdsl.costs.serving import Load
from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.cluster import Nodes
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.workload import Workload
from hexdsl.passes.inventory import groups_of, machines_of
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
from hexdsl.passes.serve.layers import Ints

if TYPE_CHECKING:
    from hexdsl.passes.serve.shapes import Shape

SMALL = 8
"""Up to so many GPUs every shape of replica is enumerated, and the plan is exact."""


BLOCK = 16
"""Tokens in a block of the KV cache."""

SPARE = 6.0
"""Seats beyond the mean number of running requests, in its square roots.

Independent arrivals at servers without limit make that number a Poisson one; near capacity a batch serves hardly more
the larger it is, so that it varies several times as much.  Too few seats make first tokens wait.
"""


Role = Literal["both", "prefill", "decode"]
"""Which phases a replica does."""


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
    region: str | None = None


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
    margins: Mapping[tuple[str, str], float] = field(default_factory=dict)
    apart: bool = True
    """Whether the search may put phases on different replicas; its bound is over all plans even so."""

    def margin(self, of: str, kind: str) -> float:
        """By how much a figure is taken to be worse than the model says: of `p95(ttft)` and the like, or `capacity`."""
        return self.margins.get((of, kind), 1.0)

    def kind_of(self, shape: Shape, role: Role) -> str:
        """What replicas of this shape have in common with others on as many GPUs of the same kinds of machine."""
        counts: Counter[str] = Counter()
        for slot in shape.slots:
            counts[self.classes[slot.cls].name] += slot.tp
        return kind_named(counts, role)

    @property
    def devices(self) -> int:
        return sum(c.count * c.size for c in self.classes)

    @property
    def small(self) -> bool:
        return self.devices <= SMALL

    @property
    def phased(self) -> bool:
        """Whether the phases may lie on different replicas: where the spec names them."""
        return bool(self.serve.phase or self.serve.edges)

    def may_do(self, role: Role, classes: Iterable[int]) -> bool:
        """Whether a replica on machines of these classes may do the phases of a role, as `on` of a phase says."""
        bound = [set(p.on) for p in self.serve.phase if p.on and role in (p.name, "both")]
        places = [{self.classes[c].name, self.classes[c].region} for c in classes]
        return all(place & where for place in places for where in bound)

    @property
    def output(self) -> float:
        """Mean tokens of an answer."""
        return float(np.asarray(self.load.output))

    @property
    def prompt(self) -> float:
        """Mean tokens of a prompt."""
        return float(np.asarray(self.load.prompt))

    def seats(self, running: ArrayLike, kv_tokens: ArrayLike) -> Ints:
        """Requests that a replica takes on at once where so many run on average, if its KV cache holds them.

        A closed loop keeps the number as it is.
        """
        mean = np.asarray(running)
        spare = np.ceil(SPARE * np.sqrt(mean)) if self.arrivals is not None else np.zeros_like(mean)
        held = np.minimum(self.engine.max_batch, np.asarray(kv_tokens) // self.tokens_per_request)
        return np.asarray(np.maximum(mean, np.minimum(mean + spare, held)), dtype=np.int64)

    @property
    def tokens_per_request(self) -> float:
        """KV tokens set aside for a running request, within the context.

        Its whole prompt and answer, or what those hold that run at any one time, who are more often those with long
        answers; both on average.
        """
        return min(max(self.prompt + self.output, float(self.load.context)), float(self.context))


def problem_of(plan: Plan) -> Problem:
    """The serving problem of a plan whose inventory is known."""
    serve = plan.workflow
    assert isinstance(serve, Serve)
    arch = arch_of(serve.model)
    return Problem(
        serve=serve,
        classes=tuple(_class(group, serve, arch) for group in _there(plan, serve)),
        network=network_of(serve.on),
        arch=arch,
        engine=engine_of(serve),
        load=load_of(serve),
        workload=workload_of(serve),
        arrivals=arrivals_of(serve),
        context=plan.context or context_of(serve),
        margins={(m.of, m.kind): m.factor for m in plan.margins},
        apart=plan.apart,
    )


def _there(plan: Plan, serve: Serve) -> Iterator[Nodes]:
    """The groups of machines, with as many as are left of each."""
    gone = Counter(m.group for m in machines_of(serve.on) if m.id in plan.lost) if plan.lost else Counter[str]()
    for group in groups_of(serve.on):
        left = group.count - gone[group.name]
        if left:
            yield group if left == group.count else group.with_(count=left, hosts=group.hosts[:left])


def kind_named(counts: Mapping[str, int], role: Role) -> str:
    """`2 desk + 2 server`; replicas of one phase are of one kind.

    What the model leaves out of a phase it leaves out on whatever GPUs, and margins for some only drive the search on
    to others.
    """
    if role != "both":
        return f"{role} replicas"
    return " + ".join(f"{count} {name}" for name, count in sorted(counts.items()))


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
        region=group.region,
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
