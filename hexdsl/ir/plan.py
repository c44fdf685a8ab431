"""`Plan`: who does what on which GPUs, with routes, predictions, certificates and reasons.  Passes grow it."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import Field

from hexdsl.ir.base import Ir, Rounded
from hexdsl.ir.spec import Default, Workflow
from hexdsl.ir.training import Training

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
    max_batch: int = Field(description="requests that may run together: those of the planned load, and some to spare")
    step_tokens: int = Field(description="token budget of a step: decoding sequences and chunks of prompts")
    kv_tokens: int = Field(description="tokens that the KV cache holds")
    role: Literal["both", "prefill", "decode"] = Field("both", description="the half of the work that it does, or both")
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


class Handover(Ir):
    """The share of a prefill replica's requests that go on, with their KV caches, on a decode replica."""

    source: str
    target: str
    weight: Rounded = Field(description="share of the source's requests; those of a source add up to one")
    bits: int = Field(description="bits of a value of the KV cache on its way; 4 where compression pays")


class Holder(Ir):
    """A machine that holds layers of the model, as the router of chains sees it."""

    machine: str
    replica: str = Field(description="the replica of which it is a stage")
    layers: tuple[int, int] = Field(description="first layer, and the one after the last")
    layer_s: Rounded = Field(description="seconds of one layer in a step of one sequence")
    seats: int = Field(description="requests that it takes at once")
    place: int = Field(description="row and column of `delays_s` that tell how far it is from others")


class Chains(Ir):
    """What the router needs to choose a chain of machines for each request: who holds what, how quick, how far."""

    cost: Literal["latency", "load"]
    layers: int = Field(description="layers of the model")
    holders: tuple[Holder, ...]
    places: tuple[str, ...] = Field(description="groups of equal machines")
    delays_s: tuple[tuple[Rounded | None, ...], ...] = Field(
        description="seconds of a token from a machine of one place to one of another; null where there is no way"
    )


class Availability(Ir):
    """What churn does to a plan: shares of the time, machines that leave counted as away until others do their work."""

    leaves_per_h: Rounded = Field(description="machines in use that leave in an hour, on average")
    repair_s: Rounded = Field(description="seconds until the layers of a machine that left are held again, on average")
    replicas: Rounded = Field(description="share of the load whose replica is whole")
    some: Rounded = Field(description="share of the time in which some replica, or some chain, is whole")
    copies: int = Field(description="machines that hold the layer that the fewest hold")


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
    """A figure of a simulation: its mean over seeds, with a 95 % confidence interval, which ends at 0."""

    metric: str
    unit: str
    mean: Rounded
    low: Rounded
    high: Rounded


class Distribution(Ir):
    """A metric over the requests: its value at each of the simulation's `shares`, as a mean over the runs."""

    metric: str
    unit: str
    values: tuple[Rounded, ...]


class ReplicaLoad(Ir):
    """What a replica did, as a mean over the runs; shares are between 0 and 1."""

    replica: str
    requests: Rounded = Field(description="requests that it finished in a run")
    busy: Rounded = Field(description="share of the time in which its busiest stage was at work")
    kv_mean: Rounded = Field(description="share of the KV cache in use, on average over the time")
    kv_peak: Rounded = Field(description="largest share of the KV cache in use, in any run")
    preemptions: Rounded = Field(description="preemptions of a run's requests that ended here")
    latencies: dict[str, Rounded] = Field({}, description="what rules name, over the requests that ended here")


class Series(Ir):
    """Replicas over the time of the first run, in equal slices: the averages of each slice, per replica."""

    replicas: tuple[str, ...] = Field(description="one, or neighbours of which these are the averages")
    waiting: tuple[Rounded, ...] = Field(description="requests in the queue")
    running: tuple[Rounded, ...] = Field(description="requests in the batch")
    kv: tuple[Rounded, ...] = Field(description="share of the KV cache in use")
    busy: tuple[Rounded, ...] = Field(description="share of the time in which the busiest stage was at work")


class Simulation(Ir):
    """What the load came to when it was played through the plan, request by request."""

    requests: int = Field(description="requests in one run")
    seeds: int = Field(description="runs, each with arrivals and lengths of its own")
    played: str = Field("", description="what was played, where it was not drawn from the load as planned")
    warm_up_s: Rounded = Field(description="seconds at the start, and at the end, whose requests are not counted")
    figures: tuple[Simulated, ...]
    rules: tuple[RuleCheck, ...] = Field((), description="the rules about latencies and rates")
    notes: tuple[str, ...] = Field((), description="where prediction and simulation disagree")
    replicas: tuple[ReplicaLoad, ...] = ()
    shares: tuple[Rounded, ...] = Field((), description="the shares of the requests at which distributions are given")
    distributions: tuple[Distribution, ...] = ()
    slice_s: Rounded = Field(0.0, description="length of a slice of the series")
    series: tuple[Series, ...] = ()


class Margin(Ir):
    """How much worse than the model says a figure is taken to be, since a simulation of an earlier plan said so."""

    of: str = Field(description="a latency such as `p95(ttft)`, or `capacity`")
    kind: str = Field(description="replicas that it is about: their GPUs by kind of machine, and their phase")
    factor: Rounded = Field(description="at least 1; latencies are multiplied by it, and capacity is divided by it")


class Plan(Ir):
    """Everything that hexc decided, and why.  Identical inputs give identical bytes."""

    format_version: str = "1.0"
    hexc_version: str
    spec_digest: str
    name: str
    workflow: Workflow
    defaults: tuple[Default, ...] = ()
    machines: tuple[Machine, ...] = ()
    lost: tuple[str, ...] = Field((), description="machines of the spec that are gone")
    apart: bool = Field(True, description="whether phases that the spec names might lie on different replicas")
    precision: tuple[Precision, ...] = ()
    context: int = Field(0, description="longest prompt and answer together, in tokens")
    margins: tuple[Margin, ...] = Field((), description="what the search kept clear of the model's figures")
    replicas: tuple[Replica, ...] = ()
    routes: tuple[Route, ...] = ()
    handovers: tuple[Handover, ...] = Field((), description="from prefill to decode replicas, where there are any")
    chains: Chains | None = Field(None, description="where a chain of machines is chosen for each request")
    availability: Availability | None = Field(None, description="where the cluster has churn")
    training: Training | None = Field(None, description="of a training job: how it is spread over GPUs")
    predictions: tuple[Prediction, ...] = ()
    cost_usd_per_h: Rounded = 0.0
    certificates: tuple[Certificate, ...] = ()
    decisions: tuple[Decision, ...] = ()
    rules: tuple[RuleCheck, ...] = ()
    verified: tuple[str, ...] = Field((), description="what the verifier recomputed and found to hold")
    notes: tuple[str, ...] = ()
    simulation: Simulation | None = None

    @property
    def entries(self) -> tuple[Replica, ...]:
        """The replicas that take new requests: all but those that only decode."""
        return tuple(r for r in self.replicas if r.role != "decode")

    @property
    def served_req_per_s(self) -> float:
        """Requests per second that the plan takes on."""
        return sum(r.rate_req_per_s for r in self.entries)

    @property
    def simulated(self) -> bool:
        """Whether the load was played through the plan."""
        return self.simulation is not None

    def machine(self, name: str) -> Machine:
        """The machine of this id.  Raises KeyError."""
        return self._machines[name]

    @cached_property
    def _machines(self) -> dict[str, Machine]:
        return {m.id: m for m in self.machines}
