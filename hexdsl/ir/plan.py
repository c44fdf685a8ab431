"""`Plan`: who does what on which GPUs, with routes, predictions, certificates and reasons.  Passes grow it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hexdsl.ir.base import Ir, Rounded
from hexdsl.ir.spec import Default, Workflow

Provenance = Literal["given", "profiled", "measured", "modelled"]


class Device(Ir):
    """One GPU of the inventory."""

    id: str = Field(description="unique name, such as `big-0:3`")
    gpu: str = Field(description="kind of GPU")
    index: int = Field(description="position within its machine")


class Machine(Ir):
    """One machine of the inventory."""

    id: str
    group: str = Field(description="the `nodes` block that it belongs to")
    host: str
    devices: tuple[Device, ...]


class Precision(Ir):
    """Number formats of a model on a kind of GPU, and why."""

    gpu: str
    weights: str
    activations: str
    kv: str
    compute: str = Field(description="the format whose compute rate the GPU offers for this model")
    reason: str


class Term(Ir):
    """A part of a prediction, with where the figure comes from."""

    name: str
    value: Rounded
    provenance: Provenance


class Prediction(Ir):
    """A predicted metric: the value, the range it is believed to lie in, and its parts."""

    metric: str
    unit: str
    value: Rounded
    low: Rounded
    high: Rounded
    terms: tuple[Term, ...] = ()


class Memory(Ir):
    """Memory of one GPU of a stage, in bytes."""

    capacity_bytes: int
    weights_bytes: int
    kv_bytes: int = Field(description="what is set aside for the KV cache")
    other_bytes: int = Field(description="activations, communication buffers and the runtime's reserve")


class Stage(Ir):
    """A pipeline stage: some layers on a tensor-parallel group of GPUs of one machine."""

    layers: tuple[int, int] = Field(description="first layer, and the one after the last")
    machine: str
    devices: tuple[str, ...]
    gpu: str
    memory: Memory

    @property
    def tp(self) -> int:
        return len(self.devices)


class Replica(Ir):
    """A copy of the model, with the load that it takes."""

    name: str
    stages: tuple[Stage, ...]
    max_batch: int = Field(description="requests that decode together at the planned operating point")
    kv_tokens: int = Field(description="tokens that the KV cache holds")
    rate_req_per_s: Rounded = Field(description="requests per second at the planned operating point")
    capacity_req_per_s: Rounded = Field(description="requests per second at saturation")
    cost_usd_per_h: Rounded
    predictions: tuple[Prediction, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(d for stage in self.stages for d in stage.devices)


class Route(Ir):
    """The share of the requests that a replica gets."""

    replica: str
    weight: Rounded


class Certificate(Ir):
    """What was proved about an optimisation.  `bound` is what no plan can beat under the same cost model."""

    of: str = Field(description="the pass")
    goal: str = Field(description="the objective, in the user's words")
    unit: str = Field("", description="unit of objective and bound; empty for a plain number")
    objective: Rounded
    bound: Rounded
    gap: Rounded = Field(description="relative distance between objective and bound")
    status: Literal["optimal", "feasible", "limit"]
    method: str
    solver: str
    work: int = Field(description="solver iterations, or candidates enumerated")
    exact: bool = Field(description="whether the search space was complete")


class Decision(Ir):
    """One choice of the compiler and its reason."""

    by: str
    what: str
    choice: str
    reason: str


class RuleCheck(Ir):
    """A rule of the user and what the plan comes to."""

    text: str
    line: int
    value: Rounded | None = None
    limit: Rounded | None = None
    unit: str = ""
    holds: bool
    binding: bool = Field(False, description="the plan sits at the limit")


class Simulated(Ir):
    """A figure of a simulation: its mean over seeds, with a 95 % confidence interval."""

    metric: str
    unit: str
    mean: Rounded
    low: Rounded
    high: Rounded


class Simulation(Ir):
    """What the load came to when it was played through the plan, request by request."""

    requests: int = Field(description="requests in one run")
    seeds: int = Field(description="runs, each with arrivals and lengths of its own")
    warm_up_s: Rounded = Field(description="seconds at the start, and at the end, whose requests are not counted")
    figures: tuple[Simulated, ...]
    rules: tuple[RuleCheck, ...] = Field((), description="the rules about latencies and rates")
    notes: tuple[str, ...] = Field((), description="where prediction and simulation disagree")


class Plan(Ir):
    """Everything that hexc decided, and why.  Identical inputs give identical bytes."""

    format_version: str = "1.0"
    hexc_version: str
    spec_digest: str
    name: str
    workflow: Workflow
    defaults: tuple[Default, ...] = ()
    machines: tuple[Machine, ...] = ()
    precision: tuple[Precision, ...] = ()
    context: int = Field(0, description="longest prompt and answer together, in tokens")
    replicas: tuple[Replica, ...] = ()
    routes: tuple[Route, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    cost_usd_per_h: Rounded = 0.0
    certificates: tuple[Certificate, ...] = ()
    decisions: tuple[Decision, ...] = ()
    rules: tuple[RuleCheck, ...] = ()
    verified: tuple[str, ...] = Field((), description="what the verifier recomputed and found to hold")
    notes: tuple[str, ...] = ()
    simulation: Simulation | None = None

    @property
    def simulated(self) -> bool:
        """Whether the load was played through the plan."""
        return self.simulation is not None

    def machine(self, name: str) -> Machine:
        """The machine of this id.  Raises KeyError."""
        found = next((m for m in self.machines if m.id == name), None)
        if found is None:
            raise KeyError(name)
        return found
