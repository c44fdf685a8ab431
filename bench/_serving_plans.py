"""Serve plans for the table: specs written as text, planned by hexc, and pipelines priced by its cost model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby, pairwise

import numpy as np
from _serving_rows import Spent, timed
from _serving_traces import Lengths

from hexdsl.api import load_text
from hexdsl.costs.arch import Arch
from hexdsl.costs.gpu import Formats, Gpu, Link
from hexdsl.costs.memory import Engine, Slice, max_tokens
from hexdsl.costs.serving import Load, Pipeline, Stage, pipeline
from hexdsl.ir.diagnostic import SpecError
from hexdsl.ir.plan import Plan, Replica
from hexdsl.ir.spec import Spec
from hexdsl.ir.spec.serve import Serve
from hexdsl.ir.spec.workload import Poisson
from hexdsl.lang.resolve import Loaded
from hexdsl.passes.base import run_passes
from hexdsl.passes.serve.adapter import arch_of, formats_of, gpu_of, network_of
from hexdsl.passes.serve.simulate import Size, simulated
from hexdsl.pipeline import SERVE, choose, plan_spec, start
from hexdsl.sim.from_plan import Scenario

IMPORTS = 'import "std/gpus.hex"\nimport "std/models.hex"\n'
MAX_BATCH = 1024
"""Sequences at once, for engines and for the plans of others alike."""


PHASES = "  phase prefill {}\n  phase decode {}\n"
"""With these lines in a `serve` block, prefill and decode may lie on different replicas."""


@dataclass(frozen=True)
class Figure:
    """A simulated figure: its mean over the runs, and half of its 95 % confidence interval."""

    mean: float
    half: float = 0.0

    def over(self, other: Figure) -> Figure:
        """The quotient; its half width from those of both, as if they were independent."""
        if not self.mean or not other.mean:
            return Figure(float("inf") if self.mean else 0.0)
        value = self.mean / other.mean
        return Figure(value, value * math.hypot(self.half / self.mean, other.half / other.mean))


@dataclass(frozen=True)
class Outcome:
    """A plan or why there is none, and the seconds that it took from text to plan."""

    plan: Plan | None
    why: str
    spent: Spent

    def figure(self, metric: str) -> float:
        """A predicted figure of the whole; 0 without a plan."""
        found = () if self.plan is None else self.plan.predictions
        return next((float(p.value) for p in found if p.metric == metric), 0.0)

    def simulated(self, metric: str) -> Figure:
        """As the planner's own simulation has it."""
        return figure_of(self.plan, metric)

    @cached_property
    def full(self) -> Plan | None:
        return saturated(self.plan)

    @property
    def bound(self) -> float | None:
        """What no plan beats in the first objective."""
        return None if self.plan is None else self.plan.certificates[0].bound

    @property
    def holds(self) -> bool:
        """Whether every rule holds, as predicted and as simulated."""
        if self.plan is None:
            return False
        played = self.plan.simulation.rules if self.plan.simulation else ()
        return all(r.holds for r in (*self.plan.rules, *played))

    @property
    def layout(self) -> str:
        """Replicas by role, GPUs and degrees, such as `8 x H100 tp1`."""
        if self.plan is None:
            return self.why
        kinds = Counter(map(_name, self.plan.replicas))
        return ", ".join(f"{n} x {k}" for k, n in kinds.items())


def _name(replica: Replica) -> str:
    runs = groupby(replica.stages, key=lambda s: (s.gpu, s.tp))
    stages = [f"{gpu} tp{tp}" + (f" pp{n}" if n > 1 else "") for (gpu, tp), some in runs for n in [len(list(some))]]
    return " ".join((*([] if replica.role == "both" else [replica.role]), "+".join(stages)))


def figure_of(plan: Plan | None, metric: str) -> Figure:
    """A simulated figure; 0 without a plan, nan where it was not simulated."""
    if plan is None:
        return Figure(0.0)
    found = plan.simulation.figures if plan.simulation else ()
    return next((Figure(f.mean, (f.high - f.low) / 2) for f in found if f.metric == metric), Figure(float("nan")))


def runs_of(plan: Plan | None, ratio: Figure | None = None) -> str:
    """How much was simulated, and the 95 % confidence interval of a ratio."""
    if plan is None or plan.simulation is None:
        return ""
    size = f"{plan.simulation.seeds} x {plan.simulation.requests} requests"
    return size if ratio is None else f"{size}, +-{ratio.half:.2g}"


@cache
def planned(text: str, lengths: Lengths | None = None) -> Outcome:
    """Plans a spec, once; `lengths` replaces those of its workload."""
    outcome, spent = timed(lambda: _tried(lambda: plan_spec(spec_of(text, lengths), None, lambda *_: None)))
    return Outcome(outcome[0], outcome[1], spent)


def planned_once(text: str, lengths: Lengths | None = None) -> Outcome:
    """The plan of the first search, simulated, whether its rules hold in the simulation or not."""
    outcome, spent = timed(lambda: _tried(lambda: _first_plan(spec_of(text, lengths))))
    return Outcome(outcome[0], outcome[1], spent)


def _first_plan(spec: Spec) -> Plan:
    return run_passes(SERVE, start(spec, choose(spec, None)), lambda *_: None)


def _tried(work: Callable[[], Plan]) -> tuple[Plan | None, str]:
    try:
        return work(), ""
    except SpecError as error:
        return None, "; ".join(f"{d.code}: {d.message}" for d in error.diagnostics)
    except Exception as error:  # a crash is a row of the table, not the end of it
        return None, f"crashed: {type(error).__name__}: {error}"


def spec_of(text: str, lengths: Lengths | None = None) -> Spec:
    """The spec of a text, with the lengths of recorded requests in its workload."""
    spec = load_text(text, "case.hex").spec
    if lengths is None:
        return spec
    serve = choose(spec, None)
    assert isinstance(serve, Serve)
    assert serve.workload is not None
    workload = serve.workload.with_(prompt=lengths.prompt, output=lengths.output)
    return spec.with_(workflows=(serve.with_(workload=workload),))


@cache
def evenly(text: str, lengths: Lengths | None = None) -> Plan | None:
    """The plain way to use mixed GPUs: no replica mixes kinds, and every replica gets as many requests."""
    made = planned(text.replace("maximize", "kinds <= 1\n  maximize"), lengths).plan
    if made is None:
        return None
    shares = tuple(r.with_(weight=1 / len(made.routes)) for r in made.routes)
    return made.with_(routes=shares)


FULL = 1.25
"""Arrivals over what a plan is predicted to serve, when it is to serve as many as it can."""


def saturated(plan: Plan | None) -> Plan | None:
    """The plan under more arrivals than it serves: its throughput is then that of requests as they are answered."""
    return None if plan is None else at_rate(plan, FULL * plan.served_req_per_s, 2400)


def at_rate(plan: Plan, rate: float, count: int = 2000) -> Plan:
    """The plan under Poisson arrivals at this rate, all of which it takes on."""
    serve = plan.workflow
    assert isinstance(serve, Serve)
    assert serve.workload is not None
    loaded = serve.with_(workload=serve.workload.with_(arrivals=Poisson(rate=rate)))
    size = Size(count, scenario=Scenario(as_planned=False))
    return simulated(plan.with_(workflow=loaded), size)


@dataclass(frozen=True)
class Judge:
    """hexc's cost model for one spec: GPUs by group, the model, the load."""

    gpus: dict[str, tuple[Gpu, Formats, Link | None]]
    between: dict[tuple[str, str], Link]
    arch: Arch
    load: Load
    engine: Engine

    @staticmethod
    def of(loaded: Loaded, load: Load) -> Judge:
        serve = choose(loaded.spec, None)
        network = network_of(serve.on)
        gpus = {
            n.name: (gpu_of(n.gpus.gpu), formats_of(n.gpus.gpu, serve.model), network.inside[n.name])  # type: ignore[attr-defined]
            for n in serve.on.nodes
        }
        return Judge(gpus, network.between, arch_of(serve.model), load, Engine(max_batch=MAX_BATCH))  # type: ignore[attr-defined]

    def line(self, group: str, tp: int, pp: int) -> Pipeline:
        """Equal stages on GPUs of one group."""
        gpu, formats, link = self.gpus[group]
        cuts = [self.arch.layers * i // pp for i in range(pp + 1)]
        stages = [Stage((gpu,) * tp, b - a, link) for a, b in pairwise(cuts)]
        hop = self.between.get((group, group)) or link or Link(16e9)
        return pipeline(stages, [hop] * (pp - 1), self.arch, formats)

    def tokens(self, group: str, tp: int, pp: int) -> float:
        """KV tokens that the tightest stage holds."""
        gpu, formats, _ = self.gpus[group]
        cuts = [self.arch.layers * i // pp for i in range(pp + 1)]
        parts = pairwise(cuts)
        return min(float(max_tokens(gpu, self.arch, formats, Slice(a, b, tp), self.engine)) for a, b in parts)

    def legal(self, group: str, tp: int, pp: int, ttft_s: float, tpot_s: float) -> tuple[int, float]:
        """The batch at which a layout serves the most requests/s within the limits, and that rate; (0, 0) at none."""
        line, room = self.line(group, tp, pp), self.tokens(group, tp, pp)
        each = float(np.asarray(self.load.prompt)) + float(np.asarray(self.load.output))
        batches = np.arange(1, MAX_BATCH + 1, dtype=np.float64)
        tpot = line.tpot(batches, self.load)
        first = line.ttft(batches, self.load, None, tpot)[1]
        ok = (tpot <= tpot_s) & (first <= ttft_s) & (batches * each <= room)
        rates = np.where(ok, line.rate(batches, self.load), 0.0)
        best = int(np.argmax(rates))
        return (int(batches[best]), float(rates[best])) if ok.any() else (0, 0.0)

    def decode_rate(self, group: str, tp: int, pp: int, tpot_s: float) -> float:
        """Requests/s of a replica that only decodes, within the limit."""
        line, room = self.line(group, tp, pp), self.tokens(group, tp, pp)
        each = float(np.asarray(self.load.prompt)) + float(np.asarray(self.load.output))
        batches = np.arange(1, MAX_BATCH + 1, dtype=np.float64)
        ok = (line.tpot(batches, self.load, prefill=False) <= tpot_s) & (batches * each <= room)
        return float(np.where(ok, line.rate(batches, self.load, prefill=False), 0.0).max())

    def prefill_rate(self, group: str, tp: int, pp: int) -> float:
        """Requests/s of a replica that only prefills: the least gap between prompts."""
        return 1 / float(self.line(group, tp, pp).prompt_gap(self.load.prompt))


def nodes(name: str, count: int, size: int, gpu: str, more: Sequence[str] = ()) -> str:
    """A `nodes` line."""
    fields = ", ".join((f"count = {count}", f"gpus = {size} * {gpu}", *more))
    return f"  nodes {name} {{ {fields} }}\n"
